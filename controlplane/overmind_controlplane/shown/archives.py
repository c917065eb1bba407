"""The archive histories of what can be archived, and of what cannot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.record.derived_ids import derived_id
from overmind_controlplane.record.tables import ArchiveEntry


class Owned(Protocol):
    id: str
    created: datetime
    created_by: str


def archived(
    session: Session, rows: Sequence[Owned], were_archived: Collection[str] | None = None
) -> dict[str, list[wire.ArchiveEntry]]:
    """
    Their archive histories by id.

    Args:
        were_archived: the ids of those that have more than the first entry, if that is known.
    """
    told = {row.id: [active(row, "resource_id", row.id)] for row in rows}
    asked = list(told) if were_archived is None else list(were_archived)
    if not asked:
        return told
    entries = select(ArchiveEntry).where(ArchiveEntry.resource_id.in_(asked)).order_by(ArchiveEntry.number)
    for line in session.scalars(entries):
        told[line.resource_id].append(
            wire.ArchiveEntry(
                id=line.id,
                created=line.created,
                name=line.name,
                reason=line.reason,
                created_by_id=line.created_by,
                resource_id=line.resource_id,
            )
        )
    return told


def active(row: Owned, key: str, owner_id: str) -> wire.ArchiveEntry:
    """The first entry of every archive history."""
    return wire.ArchiveEntry(
        id=derived_id("active", owner_id),
        created=row.created,
        name="Active",
        reason="Initial",
        created_by_id=row.created_by,
        resource_id=owner_id if key == "resource_id" else None,
        file_id=owner_id if key == "file_id" else None,
        file_revision_id=owner_id if key == "file_revision_id" else None,
    )
