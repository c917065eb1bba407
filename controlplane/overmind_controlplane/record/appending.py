"""
Rows that are added and never changed: written together, one statement a table, when the transaction is flushed.

The unit of work of the ORM would keep an object for each, ask the database for its number, and look at it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Insert, Table, insert
from sqlalchemy.orm import Session

from overmind_controlplane.record.tables import Row

_APPENDED: Final = "appended"
HAS_WRITTEN: Final = "has_written"
"""In the `info` of a session: whether it has changed anything."""


class AppendingSession(Session):
    """A session whose flush writes what was appended too, after everything that it may refer to."""

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write what waits to be written."""
        super().flush(objects)
        waiting: dict[Table, list[dict[str, Any]]] = self.info.pop(_APPENDED, {})
        for table, rows in waiting.items():
            self.connection().execute(_inserting(table), rows)
            self.info[HAS_WRITTEN] = True


@cache
def _inserting(table: Table) -> Insert:
    return insert(table)


def append(session: Session, row: type[Row], values: Mapping[str, Any]) -> None:
    """
    Add a line to the table of *row*; queries of this session see it from then on.

    Args:
        values: by column; every call for one table names the same columns.
    """
    waiting: dict[Any, list[dict[str, Any]]] = session.info.setdefault(_APPENDED, {})
    waiting.setdefault(row.__table__, []).append(dict(values))
