"""What a job says of recorded traffic: how much of it is enough, and whether only the worst of it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import Field, field_validator

from overmind_executors.parameters import Parameters

# Seconds since 1970, and units that are so many times smaller, by the size of the number: the year 5138 in seconds.
_UNITS: Final = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))

_FIRST_YEAR: Final = 1980


class Traffic(Parameters):
    """
    When a prompt is tuned again by itself: what a scheduler knows, and asks the job to hold against the rows.

    Attributes:
        as_of: the time at which the rows were read, ISO 8601.
        window_days: some row has to be so young.
        last_improvement_count: scored rows there were when the prompt was improved last; the next threshold of
            30, 100, 200, 500, 1000, 2000… above it has to be reached.
        criteria_changed: since then: that marker is taken one threshold back.
        last_run_count: scored rows there were at the last run, improved or not; there have to be more.
        version, version_field: of `least_share` of the scored rows, so that the version in use is the one that is
            tuned; None for not asked.
    """

    as_of: str
    window_days: Annotated[float, Field(gt=0, le=3650)] = 7.0
    last_improvement_count: Annotated[int, Field(ge=0, lt=1 << 53)] = 0
    criteria_changed: bool = False
    last_run_count: Annotated[int, Field(ge=0, lt=1 << 53)] = 0
    version: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    version_field: Annotated[str, Field(min_length=1, max_length=200)] = "prompt_version"
    least_share: Annotated[float, Field(ge=0, le=1)] = 0.25

    @field_validator("as_of")
    @classmethod
    def _is_a_time(cls, told: str) -> str:
        if (found := moment(told)) is None or found.year < _FIRST_YEAR:
            raise ValueError("a time such as 2026-11-22T13:00:00Z")
        return told

    @property
    def since(self) -> datetime:
        """The oldest time that is young enough."""
        return (moment(self.as_of) or datetime.max.replace(tzinfo=UTC)) - timedelta(days=self.window_days)


class WorstFirst(Parameters):
    """
    Take the rows that did worst: of each bucket of recorded scores the newest, the worst buckets first.

    Attributes:
        newest: of each bucket.
        most: of all buckets together.
    """

    newest: Annotated[int, Field(ge=1, le=100_000)] = 15
    most: Annotated[int, Field(ge=1, le=100_000)] = 50


def moment(told: Any) -> datetime | None:
    """The time that *told* says: ISO 8601 (in UTC where it has no zone), or seconds, ms, µs, ns since 1970."""
    try:
        if isinstance(told, str):
            found = datetime.fromisoformat(told)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(told, int | float) and not isinstance(told, bool) and told >= 0:
            unit = next((unit for most, unit in _UNITS if told < most), None)
            return None if unit is None else datetime.fromtimestamp(told / unit, UTC)
    except (ValueError, OverflowError):
        return None
    return None
