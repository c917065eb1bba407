"""Files, what they were made from, and whose they are."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from overmind_controlplane.record.tables.columns import Id, Moment, Row, new_id, now


class File(Row):
    """Revisions and who owns them: a Model, an Artifact or a Job."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    resource_type: Mapped[str] = mapped_column(String(16))
    resource_id: Mapped[str] = mapped_column(Id)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class Revision(Row):
    """
    One version of a file. `size` and `sha256` were measured by us; the rest is as its maker said.

    Blobs are kept under `content_sha` and `properties_sha`: hex SHA-384 of bytes and salt.
    """

    __tablename__ = "revisions"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"), index=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
    content_sha: Mapped[str] = mapped_column(String(96), index=True)
    content_salt: Mapped[str] = mapped_column(String(32))
    properties_sha: Mapped[str] = mapped_column(String(96), index=True)
    properties_salt: Mapped[str] = mapped_column(String(32))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None] = mapped_column(String(255))
    extension: Mapped[str | None] = mapped_column(String(255))
    mime: Mapped[str | None] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(255))
    display_name: Mapped[str | None] = mapped_column(String(255))
    version_name: Mapped[str | None] = mapped_column(String(255))
    external_identifier: Mapped[str | None] = mapped_column(String(255))


class Link(Row):
    """*product* was made from *source*: a source of the one revision and a product of the other."""

    __tablename__ = "links"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    source_id: Mapped[str] = mapped_column(ForeignKey("revisions.id"), index=True)
    product_id: Mapped[str] = mapped_column(ForeignKey("revisions.id"), index=True)
    relationship_identifier: Mapped[str | None] = mapped_column(String(255))


class Model(Row):
    """An input file of jobs."""

    __tablename__ = "models"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class Artifact(Row):
    """A file that a job made."""

    __tablename__ = "artifacts"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)


class ArchiveEntry(Row):
    """A job was archived or restored; the first entry, "Active", is not kept."""

    __tablename__ = "archive_entries"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    resource_id: Mapped[str] = mapped_column(Id, index=True)
    name: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
