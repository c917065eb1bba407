"""What all tables share: the kinds of their columns, ids and moments."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Dialect, String
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from overmind_agent.lifecycle import Status

Id = String(36)
Any_JSON = JSON(none_as_null=True)


class Moment(TypeDecorator[datetime]):
    """An aware time; SQLite forgets the zone, so all are kept and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """To UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """From UTC."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class StatusName(TypeDecorator[Status]):
    """A status by its name on the wire."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: Status | None, _dialect: Dialect) -> str | None:
        """Its name."""
        return value.value if value else None

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Status | None:
        """The status of that name."""
        return Status(value) if value else None


def new_id() -> str:
    """A fresh UUID, as text."""
    return str(uuid.uuid4())


def now() -> datetime:
    """The time for people; leases and reservations look at `StoreClock`."""
    return datetime.now(UTC)


class Row(DeclarativeBase):
    """What all tables share."""
