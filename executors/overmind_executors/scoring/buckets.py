"""Scores of 0 to 1 in five buckets, for counting and for choosing among rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BUCKETS: Final[Mapping[str, float]] = {
    "poor": 0.0,
    "below_average": 0.2,
    "average": 0.4,
    "good": 0.6,
    "excellent": 0.8,
}
"""The lower ends, the worst bucket first."""


def bucket_of(value: float) -> str:
    """The name of the bucket that *value* falls into."""
    return next(name for name, edge in reversed(list(BUCKETS.items())) if value >= edge)
