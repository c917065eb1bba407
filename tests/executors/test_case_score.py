"""Points of one case: the published scorer's own figures, and its defects, which must not come back."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from overmind_executors.scoring.case_score import dimension_score, score_case
from overmind_executors.scoring.eval_spec import ConsistencyRule, EvalSpec, FieldSpec, ToolConfig, bands_of
from overmind_executors.scoring.items import ToolCall
from overmind_executors.scoring.texts import keyword_coverage, similarity

TIER = FieldSpec(type="enum", weight=30, values=["hot", "warm", "cold"], partial_score=6)
SCORE = FieldSpec(type="number", weight=40, importance="critical", range=[0.0, 100.0], tolerance_bands=bands_of(10))
WHY = FieldSpec(type="text", weight=10, importance="minor", eval_mode="similarity")
FIELDS = {"score": SCORE, "tier": TIER, "why": WHY}
CORRELATION = ConsistencyRule(field_a="score", field_b="tier", type="correlation")
LEAD = EvalSpec(output_fields=FIELDS, structure_weight=20)
STRICT_LEAD = EvalSpec(output_fields=FIELDS, structure_weight=20, consistency_rules=[CORRELATION])
WANTED = {"score": 80, "tier": "hot", "why": "asks for a price"}


def _alone(field: FieldSpec, output: Any, expected: Any) -> float | None:
    """The points of a field by itself."""
    spec = EvalSpec(output_fields={"f": field}, structure_weight=0)
    return score_case(spec, {"f": output}, {"f": expected}).earned["field:f"]


def test_the_published_figures_of_single_fields() -> None:
    bare = FieldSpec(type="number", weight=40)
    cases = [
        (TIER, " Hot ", "hot", 30),
        (TIER, "warm", "hot", 6),
        (TIER, "tepid", "hot", 0),
        (SCORE, 85, 80, 40),
        (SCORE, 86, 80, 32),
        (SCORE, 92, 80, 20),
        (SCORE, 95.01, 80, 10),
        (SCORE, 105, 80, 10),
        (SCORE, 105.1, 80, 0),
        (bare, 90, 80, 40),
        (bare, 100, 80, 20),
        (bare, 101, 80, 0),
    ]

    points = [_alone(field, output, expected) for field, output, expected, _ in cases]

    assert [wanted for *_, wanted in cases] == points


def test_the_published_figures_of_texts() -> None:
    assert 0.6000 == pytest.approx(similarity("The cat sat", "the cat sat on the mat"), abs=5e-5)
    assert 0.0909 == pytest.approx(similarity("cat", "the cat sat on the mat"), abs=5e-5)
    assert 0.7467 == pytest.approx(
        similarity("refund approved within five days", "Refund approved within 5 days"), abs=5e-5
    )
    assert 0.6667 == pytest.approx(
        keyword_coverage("The customer wants a refund", "customer refund request"), abs=5e-5
    )
    assert (1.0, 0.0, 1.0) == (similarity("", ""), similarity("", "a"), similarity("a", ""))
    assert 0.5 == similarity("word " * 100, "word")


def test_the_published_figures_of_a_judge() -> None:
    marks = {"semantic_correctness": 8, "internal_consistency": 9, "reasoning_quality": 6}

    assert 0.79 == pytest.approx(dimension_score(marks, has_policy=False))
    assert 0.70 == pytest.approx(dimension_score({**marks, "policy_compliance": 5}, has_policy=True))


def test_the_published_figures_of_whole_cases() -> None:
    right = {"score": 82, "tier": "hot", "why": "asks for a price"}

    totals = [
        score_case(STRICT_LEAD, right, WANTED).total,
        score_case(STRICT_LEAD, {**right, "tier": "cold"}, WANTED).total,
        score_case(STRICT_LEAD, {"score": "n/a", "tier": "HOT"}, WANTED).total,
    ]

    assert [100, 73, 44.667] == [round(total, 3) for total in totals]


def test_the_bands_of_a_tolerance() -> None:
    assert [(5, 1.0), (10, 0.8), (15, 0.5), (25, 0.25)] == [(b.within, b.score_pct) for b in bands_of(10)]


def test_without_a_judge_its_points_go_to_the_fields() -> None:
    fields = {f"f{weight}": FieldSpec(type="boolean", weight=weight) for weight in (40, 30, 10)}

    shared = EvalSpec(output_fields=fields, llm_judge_weight=10).without_judge()

    assert [45.0, 33.8, 11.2] == [field.weight for field in shared.output_fields.values()]
    assert 0 == shared.llm_judge_weight


def test_a_total_is_made_of_its_components_once() -> None:
    """The published scorer added an old total again when the judge came late: a perfect case had 190 points."""
    spec = LEAD.model_copy(update={"llm_judge_weight": 10.0})

    late = [score_case(spec, dict(WANTED), WANTED, judged=judged) for judged in (None, 1.0)]

    assert [100, 100] == [case.total for case in late]


@pytest.mark.parametrize("expected", [80, 0])
def test_a_field_that_is_not_there_earns_nothing(expected: int) -> None:
    """A crash was scored as an output: null counted as 0, and 40 points were paid where 0 was expected."""
    case = score_case(LEAD, {}, {**WANTED, "score": expected})

    assert 0 == case.earned["field:score"]
    assert 0 == case.total


def test_nothing_is_paid_where_nothing_is_expected() -> None:
    case = score_case(LEAD, {"score": 80}, {"score": 80})

    assert {"structure": 10.0, "field:score": 40.0, "field:tier": None, "field:why": None} == case.earned


def test_true_is_not_the_number_one() -> None:
    assert 0 == _alone(FieldSpec(type="number", weight=40), True, 1)
    assert -2 == score_case(LEAD, {"score": True}, WANTED).penalties["type"]


def test_tools_without_a_trace_cost_nothing() -> None:
    """A missing trace was 0 for everybody."""
    spec = LEAD.model_copy(
        update={"tool_usage_weight": 10.0, "tool_config": ToolConfig(expected_tools=["search", "price"])}
    )

    totals = [
        score_case(spec, WANTED, WANTED, calls=calls).total for calls in (None, (ToolCall("search", {}),), ())
    ]

    assert [100, round(100 * 105 / 110, 6), round(100 * 100 / 110, 6)] == [round(total, 6) for total in totals]


def test_tools_with_nothing_to_check_cost_nothing() -> None:
    """Arguments and chaining with nothing to check were 0."""
    config = ToolConfig.model_validate(
        {
            "expected_tools": ["search"],
            "param_constraints": {"search": {"limit": [5]}},
            "dependencies": [{"from_tool": "a", "from_field": "id", "to_tool": "b", "to_param": "id"}],
        }
    )
    spec = LEAD.model_copy(update={"tool_usage_weight": 10.0, "tool_config": config})

    case = score_case(spec, WANTED, WANTED, calls=(ToolCall("search", {"query": "x"}),))

    assert 10 == case.earned["tool_usage"]


def test_tools_are_checked_for_arguments_and_chaining() -> None:
    config = ToolConfig.model_validate(
        {
            "param_constraints": {"search": {"limit": [5]}},
            "dependencies": [{"from_tool": "search", "from_field": "id", "to_tool": "price", "to_param": "lead"}],
        }
    )
    spec = LEAD.model_copy(update={"tool_usage_weight": 10.0, "tool_config": config})
    found = ToolCall("search", {"limit": "5"}, result={"id": 7})

    points = [
        score_case(spec, WANTED, WANTED, calls=(found, ToolCall("price", {"lead": lead}))).earned["tool_usage"]
        for lead in (7, 8)
    ]

    assert [10, 5] == points


def test_no_rule_holds_that_nobody_gave() -> None:
    """A correlation was made up for every number and enum, and cost 3 points."""
    assert 76 == score_case(LEAD, {**WANTED, "score": 82, "tier": "cold"}, WANTED).total


def test_a_rule_that_the_expected_output_breaks_does_not_hold() -> None:
    odd = {"score": 90, "tier": "cold", "why": "asks for a price"}

    assert 100 == score_case(STRICT_LEAD, odd, odd).total


def test_a_correlation_is_measured_against_the_whole_range() -> None:
    """A range was divided by 1 at least, so that 0 to 0.5 never came above its half."""
    share = FieldSpec(type="number", weight=40, range=[0.0, 0.5], tolerance=0.1)
    spec = EvalSpec(output_fields={**FIELDS, "score": share}, consistency_rules=[CORRELATION])
    said, wanted = {"score": 0.45, "tier": "cold"}, {"score": 0.45, "tier": "hot"}

    assert -3 == score_case(spec, said, wanted).penalties["consistency"]


def test_an_ordering_is_a_rule_between_numbers() -> None:
    rule = ConsistencyRule(field_a="low", field_b="high", type="ordering", operator="<")
    fields = {name: FieldSpec(type="number", weight=40) for name in ("low", "high")}
    spec = EvalSpec(output_fields=fields, consistency_rules=[rule])
    wanted = {"low": 1, "high": 2}

    penalties = [score_case(spec, {"low": 1, "high": h}, wanted).penalties["consistency"] for h in (0, 1, 2, None)]

    assert [-3, -3, 0, 0] == penalties


@pytest.mark.parametrize(("judged", "points"), [(0.5, 5), (1.2, 10), (-3, 0), (float("nan"), None), (None, None)])
def test_a_judges_word_is_a_number_or_nothing(judged: float | None, points: float | None) -> None:
    """Exactly 0.5 was taken for a failure, 12 of 10 for more than all, and a failure for 0.5."""
    spec = LEAD.model_copy(update={"llm_judge_weight": 10.0})

    assert points == score_case(spec, WANTED, WANTED, judged=judged).earned["llm_judge"]


def test_half_a_judges_word_is_half_its_points() -> None:
    """A weight was multiplied by 100 and then cut off, so that practically any text had 100."""
    spec = EvalSpec(
        output_fields={"why": FieldSpec(type="text", weight=1)}, structure_weight=0, llm_judge_weight=99
    )

    assert 50.5 == score_case(spec, {"why": "so"}, {"why": "so"}, judged=0.5).total


def test_a_mark_beyond_ten_is_ten_and_a_missing_one_is_no_word() -> None:
    marks: dict[str, float] = {"semantic_correctness": 12, "internal_consistency": 10, "reasoning_quality": 10}

    assert 1.0 == dimension_score(marks, has_policy=False)
    assert dimension_score(marks, has_policy=True) is None


def test_penalties_have_a_floor_and_a_total_is_never_negative() -> None:
    fields = {f"n{number}": FieldSpec(type="number", weight=1) for number in range(9)}
    wrong = dict.fromkeys(fields, "many")

    case = score_case(EvalSpec(output_fields=fields, structure_weight=1), wrong, dict.fromkeys(fields, 1))

    assert (-10, 0) == (case.penalties["type"], case.total)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"output_fields": {"a": {"type": "text"}}}, "every field weighs 0"),
        ({"consistency_rules": [{"field_a": "score", "field_b": "nope", "type": "ordering"}]}, "'nope'"),
        (
            {"consistency_rules": [{"field_a": "score", "field_b": "tier", "type": "ordering"}]},
            "between two numbers",
        ),
        ({"consistency_rules": [{"field_a": "tier", "field_b": "score", "type": "correlation"}]}, "with a range"),
        ({"output_fields": {"a": {"type": "enum", "weight": 1}}}, "an enum needs them"),
        ({"output_fields": {"a": {"type": "number", "weight": 1, "range": [1.0, 1.0]}}}, "the lower end"),
        ({"structur_weight": 3}, "structur_weight"),
    ],
)
def test_a_spec_that_does_not_hold_together_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EvalSpec.model_validate({**LEAD.model_dump(), **change})
