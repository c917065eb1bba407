"""A candidate beside the incumbent, on the rows that both have: quality, money, latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from overmind_executors.backtesting.evidence import Evidence, Flags, Floats, Places, Side
from overmind_executors.statistics.paired import Comparison, compare

DRAWS: Final = 400
SLOWEST: Final = 0.95
_AT_ONCE: Final = 2_000_000


@dataclass(frozen=True)
class Quality:
    """
    Three questions to the same rows.

    Attributes:
        better, no_worse, worse: one-sided tests of a gain, of a loss smaller than the margin, of a loss.
        asked_rows: rows that both sides were asked about.
        compared_rows: those that both have a score for; `better.units` counts them, or their clusters.
    """

    better: Comparison
    no_worse: Comparison
    worse: Comparison
    asked_rows: int
    compared_rows: int

    @property
    def coverage(self) -> float | None:
        """The share of rows asked of both sides that is scored on both."""
        return self.compared_rows / self.asked_rows if self.asked_rows else None


@dataclass(frozen=True)
class Change:
    """
    A figure of which less is better, on rows of both sides.

    Attributes:
        before, after: the incumbent's and the candidate's.
        low, high: the interval of `after - before`.
        requests: how many of them the figures are of, on each side.
        saving: the share of *before* that is saved, rounded to six places; None when *before* is 0.
    """

    before: float
    after: float
    low: float
    high: float
    requests: int

    @property
    def saving(self) -> float | None:
        """See above."""
        return round(1 - self.after / self.before, 6) if self.before > 0 else None

    def reaches(self, share: float) -> bool:
        """Whether the figure itself is lower by that share; a saving of exactly the share is enough."""
        return self.saving is not None and self.saving >= round(share, 6)

    @property
    def is_lower(self) -> bool:
        """Whether it is lower beyond the interval."""
        return self.high < 0

    @property
    def is_higher(self) -> bool:
        """Whether it is higher beyond the interval."""
        return self.low > 0


def quality(evidence: Evidence, name: str, *, margin: float, level: float, within: Places | None = None) -> Quality:
    """
    Candidate *name* against the incumbent.

    Args:
        within: only these rows.
    """
    old, new = evidence.sides[evidence.incumbent], evidence.sides[name]
    shared = _has(old.quality) & _has(new.quality)
    asked = old.asked.any(axis=1) & new.asked.any(axis=1)
    if within is not None:
        inside = np.zeros(evidence.rows, dtype=bool)
        inside[within] = True
        shared, asked = shared & inside, asked & inside
    places = np.flatnonzero(shared)
    before, after = _values(old, places), _values(new, places)
    clusters = None if evidence.clusters is None else [evidence.clusters[place] for place in places.tolist()]
    return Quality(
        compare(before, after, clusters=clusters, level=level),
        compare(before, after, clusters=clusters, margin=margin, level=level),
        compare(after, before, clusters=clusters, level=level),
        int(asked.sum()),
        len(places),
    )


def cost_change(evidence: Evidence, name: str, *, level: float) -> Change | None:
    """US dollars for a request; None when a price is unknown, for a missing price says nothing."""
    old, new = evidence.sides[evidence.incumbent], evidence.sides[name]
    if not (old.is_priced and new.is_priced):
        return None
    rows = _both(old.cost_usd, new.cost_usd)
    if len(rows) < 2:
        return None
    before, after = old.cost_usd[rows].mean(axis=1), new.cost_usd[rows].mean(axis=1)
    drawn = draws(len(rows))
    differences = (after - before)[drawn].mean(axis=1)
    return Change(float(before.mean()), float(after.mean()), *_ends(differences, level), before.size)


def latency_change(evidence: Evidence, name: str, *, level: float) -> Change | None:
    """The 95th percentile of latency, milliseconds; None with fewer than two rows of both, or of another hour."""
    if evidence.is_recorded:
        return None
    old, new = evidence.sides[evidence.incumbent], evidence.sides[name]
    rows = _both(old.latency_ms, new.latency_ms)
    if len(rows) < 2:
        return None
    before, after = old.latency_ms[rows], new.latency_ms[rows]
    drawn = draws(len(rows))
    differences = slowest(after, drawn) - slowest(before, drawn)
    whole = np.arange(len(rows))[None, :]
    figures = float(slowest(before, whole)[0]), float(slowest(after, whole)[0])
    return Change(*figures, *_ends(differences, level), before.size)


def fewest_requests(alpha: float, share: float = SLOWEST) -> int:
    """
    With fewer the slowest value may well lie below the percentile, and an interval of it says nothing.

    Args:
        alpha: the chance of that, which is still allowed: 72 requests at 2.5 % for the 95th percentile.
    """
    return math.ceil(math.log(alpha) / math.log(share))


def slowest(values: Floats, drawn: Places, share: float = SLOWEST) -> Floats:
    """
    A percentile of each draw, by nearest rank.

    Args:
        values: shape (n_rows, n_repetitions), no NaN.
        drawn: shape (n_draws, n_rows), places of rows.
    """
    rank = max(0, int(np.ceil(share * values.size)) - 1)
    step = max(1, _AT_ONCE // max(1, values.size))
    found = [
        np.partition(values[part].reshape(len(part), -1), rank, axis=1)[:, rank]
        for part in (drawn[start : start + step] for start in range(0, len(drawn), step))
    ]
    return np.concatenate(found)


@lru_cache(maxsize=8)
def draws(rows: int, count: int = DRAWS) -> Places:
    """*count* samples of *rows* rows with replacement: the same for the same number, so that sides stay paired."""
    few = max(100, min(count, 20_000_000 // max(1, rows)))
    return np.random.default_rng(rows).integers(0, rows, size=(few, rows))


def _has(values: Floats) -> Flags:
    return np.asarray((~np.isnan(values)).any(axis=1))


def _both(old: Floats, new: Floats) -> Places:
    """Rows of which every repetition has a value on both sides."""
    return np.flatnonzero(~np.isnan(old).any(axis=1) & ~np.isnan(new).any(axis=1))


def _values(side: Side, places: Places) -> Sequence[list[float]]:
    return [[value for value in side.quality[place].tolist() if not math.isnan(value)] for place in places]


def _ends(differences: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
