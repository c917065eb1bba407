"""By which rule a model is preferred to the incumbent, and the words in which that is said."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from overmind_executors.parameters import Parameters

Share = Annotated[float, Field(ge=0, le=1)]


class Verdict(StrEnum):
    """What to do. `BLOCKED`: more rows would not help, something else has to be settled first."""

    SWITCH = "SWITCH"
    KEEP = "KEEP"
    INCONCLUSIVE = "INCONCLUSIVE"
    BLOCKED = "BLOCKED"


class Reason(StrEnum):
    """Why. The list is closed."""

    QUALITY_SUPERIOR = "QUALITY_SUPERIOR"
    QUALITY_NON_INFERIOR = "QUALITY_NON_INFERIOR"
    QUALITY_INFERIOR = "QUALITY_INFERIOR"
    COST_LOWER = "COST_LOWER"
    COST_HIGHER = "COST_HIGHER"
    LATENCY_LOWER = "LATENCY_LOWER"
    LATENCY_SLO_BREACH = "LATENCY_SLO_BREACH"
    GATE_FAILED = "GATE_FAILED"
    LOW_COVERAGE = "LOW_COVERAGE"
    ERROR_RATE_HIGH = "ERROR_RATE_HIGH"
    JUDGE_UNCALIBRATED = "JUDGE_UNCALIBRATED"
    JUDGE_SAME_FAMILY = "JUDGE_SAME_FAMILY"
    SAMPLE_TOO_SMALL = "SAMPLE_TOO_SMALL"
    SEGMENT_REGRESSION = "SEGMENT_REGRESSION"
    PRICE_UNKNOWN = "PRICE_UNKNOWN"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"


WITHHOLDING = frozenset(
    {Reason.LATENCY_SLO_BREACH, Reason.GATE_FAILED, Reason.JUDGE_SAME_FAMILY, Reason.SEGMENT_REGRESSION}
)
"""With one of these no switch is advised, however good the rest is."""


class Rule(Parameters):
    """
    What counts as better, no worse and cheaper; stated before the first call, and part of the result.

    Attributes:
        confidence: of the two-sided intervals; each one-sided test is at half of what it leaves.
        margin: a loss of quality that would not matter, 0 to 1.
        min_saving: the share of money, or of the 95th percentile of latency, that has to be saved for "cheaper"
            or "faster".
        min_rows: with fewer rows that both sides have a score for there is no verdict.
        min_success_rate: the share of requests that has to be answered, by either side.
        min_coverage: the share of rows, asked of both sides, that has to be scored on both.
        min_segment_rows: smaller segments are shown, not tested.
        success_at: the quality from which on a request is a success, for the price of a thousand of them.
        latency_slo_ms: what the 95th percentile must not exceed, None for no such promise.
    """

    confidence: Annotated[float, Field(ge=0.5, le=0.99999)] = 0.95
    margin: Annotated[float, Field(gt=0, le=0.5)] = 0.02
    min_saving: Annotated[float, Field(gt=0, lt=1)] = 0.1
    min_rows: Annotated[int, Field(ge=2)] = 10
    min_success_rate: Share = 0.9
    min_coverage: Share = 0.9
    min_segment_rows: Annotated[int, Field(ge=2)] = 10
    success_at: Share = 0.5
    latency_slo_ms: Annotated[float, Field(gt=0)] | None = None

    @property
    def alpha(self) -> float:
        """Of each one-sided test, over all candidates together."""
        return (1 - self.confidence) / 2
