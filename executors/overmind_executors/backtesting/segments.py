"""Where a candidate is worse than the incumbent, even when it is better in the mean."""

from __future__ import annotations

from dataclasses import dataclass

from overmind_executors.backtesting import pairs
from overmind_executors.backtesting.evidence import Evidence
from overmind_executors.backtesting.rule import Rule
from overmind_executors.statistics.paired import Comparison, holm


@dataclass(frozen=True)
class SegmentFinding:
    """
    One candidate in one segment.

    Attributes:
        p_worse: adjusted for the number of this candidate's segments; None for a segment too small to be tested.
        is_regression: shown to be worse, by more than the margin.
    """

    segment: str
    rows: int
    comparison: Comparison
    p_worse: float | None
    is_regression: bool


def segments_of(evidence: Evidence, rule: Rule, name: str) -> tuple[SegmentFinding, ...]:
    """All segments of candidate *name*, the worst first."""
    found = {
        segment: pairs.quality(evidence, name, margin=rule.margin, level=rule.confidence, within=rows)
        for segment, rows in evidence.segments.items()
    }
    tested = [segment for segment, one in found.items() if one.better.units >= rule.min_segment_rows]
    p_values = dict(zip(tested, holm([found[segment].worse.p_value for segment in tested]), strict=True))
    findings = [
        SegmentFinding(
            segment,
            one.compared_rows,
            one.better,
            p_values.get(segment),
            p_values.get(segment, 1.0) <= rule.alpha and round(one.better.difference, 6) < -rule.margin,
        )
        for segment, one in found.items()
    ]
    return tuple(sorted(findings, key=lambda one: (one.comparison.difference, one.segment)))
