"""
Typed scores: a number only where something was measured, and why not where it was not.

A mean is taken over `scored` alone, and never shown without its coverage.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MAX_REASON: Final = 2000


class Outcome(StrEnum):
    """
    How the scoring of one item ended.

    `abstained`: could not decide. `not_applicable`: does not concern this item. `skipped`: not attempted, such as
    for want of an output. `error`: the evaluator failed.
    """

    SCORED = "scored"
    ABSTAINED = "abstained"
    NOT_APPLICABLE = "not_applicable"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Score:
    """
    One evaluator's word on one item. Made by the functions below, which keep *value* and *outcome* together.

    Attributes:
        value: in [0, 1]; None if and only if the outcome is not `scored`.
        code: lower snake case, why there is no value or why it is what it is; empty for nothing to say.
        reason: for people.

    Raises:
        ValueError: a value without `scored` or the other way round, or one that is not in [0, 1].
    """

    outcome: Outcome
    value: float | None = None
    code: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.value is not None) != (self.outcome is Outcome.SCORED):
            raise ValueError(f"a score that is {self.outcome.value} with the value {self.value}")
        if self.value is not None and not 0.0 <= self.value <= 1.0:  # false for NaN too
            raise ValueError(f"a value within 0 and 1 is needed (got {self.value})")

    @property
    def is_scored(self) -> bool:
        """Whether there is a value."""
        return self.outcome is Outcome.SCORED

    def as_json(self) -> dict[str, Any]:
        """For a line of a result file; what is empty is left out, the value never."""
        said = {"code": self.code, "reason": self.reason[:MAX_REASON]}
        return {"outcome": self.outcome.value, "value": self.value, **{k: v for k, v in said.items() if v}}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Score:
        """What `as_json` wrote."""
        return cls(Outcome(line["outcome"]), line["value"], line.get("code", ""), line.get("reason", ""))


def scored(value: float, code: str = "", reason: str = "") -> Score:
    """
    A measured value.

    Raises:
        ValueError: it is not in [0, 1]. Rounding may carry a sum of weights a hair beyond: that is forgiven.
    """
    near = min(1.0, max(0.0, value)) if -1e-9 < value < 1 + 1e-9 else value
    return Score(Outcome.SCORED, near, code, reason)


def passed(is_right: bool, code: str = "", reason: str = "") -> Score:
    """1 or 0."""
    return Score(Outcome.SCORED, float(is_right), code, reason)


def abstained(code: str, reason: str = "") -> Score:
    """It could not be decided."""
    return Score(Outcome.ABSTAINED, None, code, reason)


def not_applicable(code: str, reason: str = "") -> Score:
    """It does not concern this item."""
    return Score(Outcome.NOT_APPLICABLE, None, code, reason)


def skipped(code: str, reason: str = "") -> Score:
    """It was not attempted."""
    return Score(Outcome.SKIPPED, None, code, reason)


def failed(code: str, reason: str = "") -> Score:
    """The evaluator failed; the item is not to blame."""
    return Score(Outcome.ERROR, None, code, reason)


class Tally:
    """The scores of one evaluator over many items, eight bytes each."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.values = array("d")

    def add(self, score: Score) -> None:
        """Count one more."""
        self.outcomes[score.outcome.value] += 1
        if score.code:
            self.codes[score.code] += 1
        if score.value is not None:
            self.values.append(score.value)

    @property
    def total(self) -> int:
        """Items so far."""
        return self.outcomes.total()

    def mean(self) -> float | None:
        """Over what was scored; None when nothing was."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    def coverage(self) -> dict[str, Any]:
        """How much of the whole the mean speaks for. What does not concern an item is not missing from it."""
        concerned = self.total - self.outcomes[Outcome.NOT_APPLICABLE.value]
        return {
            "scored": len(self.values),
            "total": self.total,
            "coverage_rate": round(len(self.values) / concerned, 6) if concerned else None,
            **{outcome.value: self.outcomes[outcome.value] for outcome in Outcome if outcome is not Outcome.SCORED},
        }
