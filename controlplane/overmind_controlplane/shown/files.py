"""Files with all their revisions, and what these were made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, exists, or_, select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.record.derived_ids import derived_id
from overmind_controlplane.record.tables import File, Link, Revision
from overmind_controlplane.shown.archives import active

_IS_LINKED: Final = or_(
    exists().where(Link.product_id == Revision.id), exists().where(Link.source_id == Revision.id)
)
_OF_FILES: Final = (
    select(File, Revision, _IS_LINKED)
    .join(Revision, Revision.file_id == File.id)
    .where(File.id.in_(bindparam("file_ids", expanding=True)))
    .order_by(Revision.number)
)


def show_files(session: Session, file_ids: Sequence[str]) -> dict[str, wire.File]:
    found = session.execute(_OF_FILES, {"file_ids": file_ids}).all()
    owners, versions = {file.id: file for file, _, _ in found}, [version for _, version, _ in found]
    sources, products = _links(session, [version.id for _, version, has_links in found if has_links])
    by_file: defaultdict[str, list[wire.FileRevision]] = defaultdict(list)
    for version in versions:
        by_file[version.file_id].append(_revision(version, sources[version.id], products[version.id]))
    return {file_id: _file(file, by_file[file_id]) for file_id, file in owners.items()}


def _file(file: File, revisions: list[wire.FileRevision]) -> wire.File:
    return wire.File(
        id=file.id,
        created=file.created,
        revisions=revisions,
        archive_status_history=[active(file, "file_id", file.id)],
        resource_id=file.resource_id,
        resource_type=file.resource_type,
        created_by_id=file.created_by,
        updated=revisions[-1].created,
    )


_Links = defaultdict[str, list[wire.RevisionLink]]


def _links(session: Session, revision_ids: Sequence[str]) -> tuple[_Links, _Links]:
    sources: _Links = defaultdict(list)
    products: _Links = defaultdict(list)
    if not revision_ids:  # as it is for most
        return sources, products
    for own, other, found in (
        (Link.product_id, Link.source_id, sources),
        (Link.source_id, Link.product_id, products),
    ):
        lines = (
            select(own, Revision.id, Link.relationship_identifier, File.id, File.resource_type, File.resource_id)
            .join(Revision, Revision.id == other)
            .join(File, File.id == Revision.file_id)
            .where(own.in_(revision_ids))
            .order_by(Link.number)
        )
        for own_id, other_id, relationship, file_id, resource_type, resource_id in session.execute(lines):
            found[own_id].append(
                wire.RevisionLink(
                    revision_id=other_id,
                    relationship_identifier=relationship,
                    file_id=file_id,
                    resource_type=resource_type,
                    resource_id=resource_id,
                )
            )
    return sources, products


def _revision(
    row: Revision, sources: list[wire.RevisionLink], products: list[wire.RevisionLink]
) -> wire.FileRevision:
    return wire.FileRevision(
        id=row.id,
        created=row.created,
        content_token=_token(row, "content", row.content_sha, row.content_salt),
        properties_token=_token(row, "properties", row.properties_sha, row.properties_salt),
        archive_status_history=[active(row, "file_revision_id", row.id)],
        file_id=row.file_id,
        name=row.name,
        extension=row.extension,
        size=row.size,
        mime=row.mime,
        description=row.description,
        display_name=row.display_name,
        version_name=row.version_name,
        external_identifier=row.external_identifier,
        sources=sources,
        products=products,
        created_by_id=row.created_by,
    )


def _token(row: Revision, kind: str, sha: str, salt: str) -> wire.FileToken:
    return wire.FileToken(
        id=derived_id(row.id, kind), created=row.created, sha=sha, salt=salt, created_by_id=row.created_by
    )
