"""
One case held against an eval spec: points for structure, fields, tools and the judge's word, less penalties.

The total is made of its components and of nothing else, so nothing can be counted twice. What cannot be known of a
case (no trace of its tools, no expected value, a judge that failed) is left out of it, and the rest is scaled up to
the whole: it neither earns nor costs.

Source:
    OverClaw's scorer of one case, without the defects that docs/scoring.md lists.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from overmind_executors.scoring.eval_spec import IMPORTANCE, ConsistencyRule, EvalSpec, FieldSpec
from overmind_executors.scoring.items import ToolCall
from overmind_executors.scoring.texts import folded, keyword_coverage, similarity
from overmind_executors.scoring.tool_usage import tool_usage

TYPE_PENALTY: Final = 2.0
MOST_TYPE_PENALTY: Final = 10.0
# A hair wider than what is written, for bands such as 0.1 that a double cannot hold.
_EPSILON: Final = 1e-9
_OPERATORS: Final = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class CaseScore:
    """
    Attributes:
        total: points in [0, total_points].
        earned: points by part: `structure`, `field:<name>`, `tool_usage`, `llm_judge`; None for what is left out.
        possible: points that the components that count could earn.
        penalties: points lost, each at most 0: `type`, `consistency`.
    """

    total: float
    earned: Mapping[str, float | None]
    possible: float
    penalties: Mapping[str, float]


def score_case(
    spec: EvalSpec,
    output: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    calls: tuple[ToolCall, ...] | None = None,
    judged: float | None = None,
) -> CaseScore:
    """
    The points of one case.

    Args:
        calls: of tools, None when there is no trace of them.
        judged: what a judge says of the whole, in [0, 1]; None when it said nothing, which earns nothing and costs
            nothing. Any number in it is a number: 0.5 is not "no answer".
    """
    shares: dict[str, tuple[float, float | None]] = {"structure": (spec.structure_weight, _structure(spec, output))}
    for name, field in spec.output_fields.items():
        shares[f"field:{name}"] = (field.weight, _field(field, output.get(name), expected.get(name)))
    if spec.tool_usage_weight:
        shares["tool_usage"] = (spec.tool_usage_weight, tool_usage(spec.tool_config, calls))
    if spec.llm_judge_weight:
        clamped = None if judged is None or math.isnan(judged) else min(1.0, max(0.0, judged))
        shares["llm_judge"] = (spec.llm_judge_weight, clamped)
    earned = {name: None if share is None else weight * share for name, (weight, share) in shares.items()}
    possible = math.fsum(weight for weight, share in shares.values() if share is not None)
    penalties = {"type": _type_penalty(spec, output), "consistency": _consistency(spec, output, expected)}
    points = math.fsum(value for value in earned.values() if value is not None)
    total = points * spec.total_points / possible if possible else 0.0
    total += math.fsum(penalties.values())
    return CaseScore(min(spec.total_points, max(0.0, total)), earned, possible, penalties)


def dimension_score(dimensions: Mapping[str, float], *, has_policy: bool) -> float | None:
    """
    A judge's four marks of 0 to 10 as one share in [0, 1]; None when a mark that counts is missing.

    Args:
        dimensions: `semantic_correctness`, `internal_consistency`, `reasoning_quality`, `policy_compliance`;
            what is beyond 10 counts as 10.
    """
    weights = _WITH_POLICY if has_policy else _WITHOUT_POLICY
    if any(not isinstance(dimensions.get(name), int | float) for name in weights):
        return None
    marks = {name: min(10.0, max(0.0, float(dimensions[name]))) for name in weights}
    return math.fsum(weight * marks[name] for name, weight in weights.items()) / 10


_WITHOUT_POLICY: Final = {"semantic_correctness": 0.5, "internal_consistency": 0.3, "reasoning_quality": 0.2}
_WITH_POLICY: Final = {
    "semantic_correctness": 0.35,
    "internal_consistency": 0.2,
    "reasoning_quality": 0.15,
    "policy_compliance": 0.3,
}


def _structure(spec: EvalSpec, output: Mapping[str, Any]) -> float:
    weights = {name: IMPORTANCE[field.importance] for name, field in spec.output_fields.items()}
    present = sum(weight for name, weight in weights.items() if output.get(name) not in (None, ""))
    return present / sum(weights.values())


def _field(spec: FieldSpec, actual: Any, expected: Any) -> float | None:
    """The share of its weight that a field earns; None when nothing is expected of it."""
    if spec.type == "text" and spec.eval_mode in ("skip", "non_empty"):
        return None if spec.eval_mode == "skip" else float(isinstance(actual, str) and bool(actual.strip()))
    if expected is None:
        return None
    if actual is None:
        return 0.0
    return _SHARES[spec.type](spec, actual, expected)


def _enum(spec: FieldSpec, actual: Any, expected: Any) -> float:
    if not isinstance(actual, str):
        return 0.0
    if folded(actual) == folded(str(expected)):
        return 1.0
    is_valid = _place(spec, actual) is not None
    return spec.partial_points / spec.weight if is_valid and spec.weight else 0.0


def _number(spec: FieldSpec, actual: Any, expected: Any) -> float | None:
    said, wanted = as_number(actual), as_number(expected)
    if wanted is None:
        return None
    if said is None:
        return 0.0
    apart = abs(said - wanted) - _EPSILON
    if spec.tolerance_bands is not None:
        fitting = [band for band in spec.tolerance_bands if apart <= band.within]
        return min(fitting, key=lambda band: band.within).score_pct if fitting else 0.0
    return 1.0 if apart <= spec.tolerance else 0.5 if apart <= 2 * spec.tolerance else 0.0


def _boolean(_spec: FieldSpec, actual: Any, expected: Any) -> float | None:
    if not _is_boolean(expected):
        return None
    return float(_is_boolean(actual) and bool(actual) == bool(expected))


def _text(spec: FieldSpec, actual: Any, expected: Any) -> float | None:
    if not isinstance(actual, str):
        return 0.0
    if spec.eval_mode == "keyword_coverage":
        return keyword_coverage(actual, str(expected))
    return similarity(actual, str(expected))


_SHARES: Final = {"enum": _enum, "number": _number, "boolean": _boolean, "text": _text}


def _type_penalty(spec: EvalSpec, output: Mapping[str, Any]) -> float:
    wrong = sum(not _is_of_type(field, output.get(name)) for name, field in spec.output_fields.items())
    return -min(MOST_TYPE_PENALTY, TYPE_PENALTY * wrong)


def _is_of_type(spec: FieldSpec, value: Any) -> bool:
    if value is None:
        return True
    if spec.type == "number":
        return as_number(value) is not None
    if spec.type == "boolean":
        return _is_boolean(value)
    return isinstance(value, str) and (spec.type == "text" or _place(spec, value) is not None)


def _consistency(spec: EvalSpec, output: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """A rule that the expected output itself breaks does not hold for this case."""
    broken = (
        rule for rule in spec.consistency_rules if _breaks(spec, rule, output) and not _breaks(spec, rule, expected)
    )
    return -math.fsum(rule.penalty for rule in broken)


def _breaks(spec: EvalSpec, rule: ConsistencyRule, values: Mapping[str, Any]) -> bool:
    first, second = values.get(rule.field_a), values.get(rule.field_b)
    number = as_number(first)
    if number is None or second is None:
        return False
    if rule.type == "ordering":
        other = as_number(second)
        return other is not None and not _OPERATORS[rule.operator](number, other)
    field_a, field_b = spec.output_fields[rule.field_a], spec.output_fields[rule.field_b]
    low, high = field_a.range or (0.0, 1.0)
    place = _place(field_b, second)
    if place is None:
        return False
    height, badness = (number - low) / (high - low), place / (len(field_b.values or ()) - 1)
    return (height > 0.7 and badness > 0.7) or (height < 0.3 and badness < 0.3)


def _place(spec: FieldSpec, value: Any) -> int | None:
    """Where *value* stands among an enum's values, best first."""
    if not isinstance(value, str):
        return None
    known = [folded(known) for known in spec.values or ()]
    return known.index(folded(value)) if folded(value) in known else None


def as_number(value: Any) -> float | None:
    """A finite number, or text that is one; never true or false."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1))
