"""The table of access relationships, which the agent-pull dialect keeps and shows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from overmind_controlplane.record.tables import Id, Moment, Row, now


class Grant(Row):
    """
    Somebody has a relation to a job, a model or an artifact.

    Attributes:
        subject_id: whatever the caller calls a user; nobody here resolves it.
    """

    __tablename__ = "grants"
    __table_args__ = (UniqueConstraint("resource_id", "subject_id"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    resource_type: Mapped[str] = mapped_column(String(16))
    resource_id: Mapped[str] = mapped_column(Id)
    subject_id: Mapped[str] = mapped_column(String(128))
    relation: Mapped[str] = mapped_column(String(32))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
