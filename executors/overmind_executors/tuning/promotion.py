"""
Whether a candidate takes the place of the prompt: one test, registered before, on rows that the search never saw.

| verdict | when |
|---|---|
| `promoted` | the gain exceeds the margin at the registered level |
| `refused` | the interval of the gain has no room above the margin; or a gate or a limit stands in the way |
| `inconclusive` | neither: the rows are too few, or too few of them could be scored |
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any, Final

from overmind_executors.statistics.intervals import mean_interval
from overmind_executors.statistics.paired import Comparison, compare
from overmind_executors.statistics.power import rows_needed, smallest_gain, spread_of_difference
from overmind_executors.tuning.sealed import Registration

FLOOR: Final = 0.8
"""The share of the held-out rows that must be scored on both sides."""
NOTABLE: Final = 0.05
"""The gain that rows needed are stated for when none was seen."""

Values = Sequence[float | None]
Ends = tuple[float, float] | None


class Decision(StrEnum):
    """What came of the test."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Verdict:
    """
    Attributes:
        baseline, candidate: means over the rows that were scored on both sides, in 0 to 1; None for none.
        compared, total: rows.
        rows_needed: to see a gain of that size four times out of five; None when it was seen, or cannot be said.
        code, why: what else stood in the way of a promotion, and in words; empty for nothing.
        intervals: of the two means, 95 %; None for none.
    """

    decision: Decision
    baseline: float | None
    candidate: float | None
    compared: int
    total: int
    rows_needed: int | None
    comparison: Comparison | None
    code: str = ""
    why: str = ""
    intervals: tuple[Ends, Ends] = (None, None)

    def as_json(self) -> dict[str, Any]:
        """For the outcome and the files."""
        found = self.comparison
        return {
            "verdict": self.decision.value,
            "code": self.code or None,
            "why": self.why or None,
            "baseline": _rounded(self.baseline),
            "candidate": _rounded(self.candidate),
            "baseline_interval_95": _rounded_ends(self.intervals[0]),
            "candidate_interval_95": _rounded_ends(self.intervals[1]),
            "rows": self.total,
            "compared": self.compared,
            "rows_needed": self.rows_needed,
            "gain": _rounded(found.difference) if found else None,
            "gain_interval_95": [round(found.low, 6), round(found.high, 6)]
            if found and found.low is not None and found.high is not None
            else None,
            "p_value": float(f"{found.p_value:.4g}") if found else None,
            "method": found.method.value if found else None,
            "better": found.better if found else 0,
            "equal": found.equal if found else 0,
            "worse": found.worse if found else 0,
        }


def decide(
    baseline: Sequence[Values],
    candidate: Sequence[Values],
    groups: Sequence[Hashable],
    registration: Registration,
) -> Verdict:
    """
    The verdict.

    Args:
        baseline, candidate: a row each, in the same order, with a value for each repetition, None for no score.
        groups: which rows are near-duplicates of each other; a group counts once.
    """
    rows = [
        (_scored(before), _scored(after), group)
        for before, after, group in zip(baseline, candidate, groups, strict=True)
    ]
    both = [(before, after, group) for before, after, group in rows if before and after]
    if len(both) < 2 or len(both) < registration.floor * registration.rows:
        return Verdict(Decision.INCONCLUSIVE, None, None, len(both), len(rows), None, None, "too_few_scored")
    found = _compared(both, registration.margin)
    before, after = fmean(fmean(b) for b, _, _ in both), fmean(fmean(a) for _, a, _ in both)
    decision, needed = Decision.PROMOTED, None
    if found.p_value > registration.alpha:
        is_settled = found.high is not None and found.high <= registration.margin
        decision = Decision.REFUSED if is_settled else Decision.INCONCLUSIVE
        gain = found.difference - registration.margin
        needed = rows_needed(gain if gain > 0 else NOTABLE, found.between**0.5, alpha=registration.alpha)
    ends = _mean_interval([b for b, _, _ in both], both), _mean_interval([a for _, a, _ in both], both)
    return Verdict(decision, before, after, len(both), len(rows), needed, found, intervals=ends)


def _mean_interval(values: Sequence[Sequence[float]], rows: Sequence[tuple[Any, Any, Hashable]]) -> Ends:
    """Of the mean over rows; near-duplicates count once, as in the test."""
    return mean_interval([fmean(one) for one in values], clusters=[group for _, _, group in rows])


def _compared(rows: Sequence[tuple[list[float], list[float], Hashable]], margin: float) -> Comparison:
    """The test of a gain beyond *margin*, told as the gain itself."""
    groups = [group for _, _, group in rows]
    found = compare(
        [before for before, _, _ in rows],
        [[value - margin for value in after] for _, after, _ in rows],
        clusters=groups if len(set(groups)) < len(groups) else None,
    )
    if not margin:
        return found
    ends = {"low": found.low, "high": found.high}
    shifted = {name: None if end is None else end + margin for name, end in ends.items()}
    return Comparison(**{**asdict(found), **shifted, "difference": found.difference + margin})


def outlook(rows: int, values: Sequence[float], repeats: int, alpha: float) -> Mapping[str, Any]:
    """
    What the held-out rows can show, before they are paid for.

    Args:
        values: of the prompt as it is, on other rows.
    """
    rate = fmean(values) if values else 0.5
    spread = spread_of_difference(min(max(rate, 0.05), 0.95), repeats=repeats)
    found = smallest_gain(rows, spread, alpha=alpha)
    return {"rows": rows, "repeats": repeats, "smallest_gain": _rounded(found), "power": 0.8, "alpha": alpha}


def _scored(values: Values) -> list[float]:
    return [value for value in values if value is not None]


def _rounded_ends(ends: Ends) -> list[float] | None:
    return None if ends is None else [round(end, 6) for end in ends]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
