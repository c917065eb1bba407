"""Deterministic evaluators: each with outputs that it lets pass, refuses, and has nothing to say about."""

# ruff: noqa: E501  # a case is a line of the table below, however long
from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from overmind_executors.rows.files import Line
from overmind_executors.rows.rows import Row, rows_of
from overmind_executors.scoring.evaluator import Evaluator
from overmind_executors.scoring.evaluators import Evaluators
from overmind_executors.scoring.items import Item, item_of
from overmind_executors.scoring.scores import Outcome, Score, Tally, abstained, failed, passed, scored

READ: TypeAdapter[Evaluator] = TypeAdapter(Evaluators)
CALLS = [{"name": "search", "arguments": {"q": "x", "n": 5}}, {"name": "open", "arguments": {"id": 1}}]
WEATHER = {"type": "object", "properties": {"degrees": {"type": "number"}}, "required": ["degrees"]}


def _item(**fields: Any) -> Item:
    (row,) = rows_of([Line(1, fields)])
    assert isinstance(row, Row)
    return item_of(row)


def _said(evaluator: dict[str, Any], **fields: Any) -> Any:
    """The value, or else the outcome and its code."""
    score = READ.validate_python(evaluator).evaluate(_item(**fields))
    return score.value if score.is_scored else (score.outcome.value, score.code)


TABLE: list[tuple[dict[str, Any], dict[str, Any], Any]] = [
    ({"kind": "exact_match"}, {"output": " Paris ", "expected_output": "paris"}, 1),
    ({"kind": "exact_match", "case_sensitive": True}, {"output": "Paris", "expected_output": "paris"}, 0),
    ({"kind": "exact_match"}, {"output": '{"b":2,"a":1}', "expected_output": {"a": 1, "b": 2}}, 1),
    ({"kind": "exact_match", "field": "a"}, {"output": 'So: {"a":"X"}', "expected_output": {"a": "x"}}, 1),
    ({"kind": "exact_match", "field": "c"}, {"output": {"a": 1}, "expected_output": {"c": 1}}, ("abstained", "no_such_field")),
    ({"kind": "exact_match"}, {"output": "x"}, ("abstained", "no_reference")),
    ({"kind": "exact_match"}, {"expected_output": "x"}, ("skipped", "missing_output")),
    ({"kind": "exact_match"}, {"output": " - ", "expected_output": "x"}, ("skipped", "empty_output")),
    ({"kind": "exact_match"}, {"output": "x", "expected_output": "x", "error": "timeout"}, ("skipped", "execution_error")),
    ({"kind": "exact_match"}, {"output": "x", "expected_output": "x", "success": False}, ("skipped", "execution_error")),
    ({"kind": "contains", "value": "REFUND"}, {"output": "a refund, please"}, 1),
    ({"kind": "contains"}, {"output": "it is 5", "expected_output": 6}, 0),
    ({"kind": "label", "labels": ["good", "not good"]}, {"output": "It is not good.", "expected_output": "not good"}, 1),
    ({"kind": "label", "labels": ["good", "bad"]}, {"output": "goodness", "expected_output": "good"}, 0),
    ({"kind": "regex", "pattern": r"^\d+$"}, {"output": "42"}, 1),
    ({"kind": "regex", "pattern": "a", "full": True}, {"output": "aa"}, 0),
    ({"kind": "regex", "pattern": "("}, {"output": "x"}, ("error", "invalid_regex")),
    (
        {"kind": "regex", "pattern": "((a{60000}){60000}){60000}"},
        {"output": "a"},
        ("error", "regex_too_large"),
    ),
    ({"kind": "regex", "pattern": "^(a|aa)+$"}, {"output": "a" * 64 + "!"}, ("error", "regex_timeout")),
    ({"kind": "text_similarity"}, {"output": "the cat sat", "expected_output": "the cat sat on the mat"}, 0.6),
    ({"kind": "keyword_coverage"}, {"output": "a refund", "expected_output": "refund request"}, 0.5),
    ({"kind": "keyword_coverage"}, {"output": "a", "expected_output": "the"}, ("not_applicable", "no_keywords")),
    ({"kind": "edit_similarity"}, {"output": "kitten", "expected_output": "sitting"}, 0.571429),
    ({"kind": "card_constraints", "max_characters": 3}, {"output": "long"}, 0),
    ({"kind": "card_constraints", "required": ["Yours"], "forbidden": ["damn"]}, {"output": "yours, x"}, 1),
    ({"kind": "card_constraints", "forbidden": ["damn"]}, {"output": "DAMN"}, 0),
    ({"kind": "json_schema_valid", "schema": WEATHER}, {"output": 'ok\n```json\n{"degrees": 4}\n```'}, 1),
    ({"kind": "json_schema_valid", "schema": WEATHER}, {"output": 'It is {"degrees": "4"}.'}, 0),
    ({"kind": "json_schema_valid", "schema": WEATHER}, {"output": {"degrees": 4.5}}, 1),
    ({"kind": "json_schema_valid", "schema": WEATHER}, {"output": '{"degrees": NaN}'}, 0),
    ({"kind": "json_schema_valid", "schema": WEATHER}, {"output": None}, ("abstained", "empty_output")),
    ({"kind": "json_schema_valid", "schema": WEATHER}, {"input": "x"}, ("skipped", "missing_output")),
    ({"kind": "field_present", "fields": ["a", "b"]}, {"output": {"a": 1, "b": ""}}, 0.5),
    ({"kind": "field_present", "fields": ["a"]}, {"output": "prose"}, ("abstained", "no_json")),
    ({"kind": "schema_field_conformance", "types": {"a": "integer", "b": "boolean"}}, {"output": {"a": True, "b": True}}, 0.5),
    ({"kind": "canonical_fields"}, {"output": {"a": "1.009", "b": " X"}, "expected_output": {"a": 1, "b": "x"}}, 1),
    ({"kind": "canonical_fields"}, {"output": {"a": 1.02, "b": True}, "expected_output": {"a": 1, "b": 1}}, 0),
    ({"kind": "canonical_fields"}, {"output": {"a": 1}, "expected_output": "x"}, ("not_applicable", "no_fields")),
    ({"kind": "reference_field_compare", "rel_tolerance": 0.1}, {"output": "109", "expected_output": 100}, 1),
    ({"kind": "reference_field_compare", "abs_tolerance": 1}, {"output": "102", "expected_output": 100}, 0),
    ({"kind": "reference_field_compare"}, {"output": "many", "expected_output": 100}, 0),
    ({"kind": "reference_field_compare"}, {"output": "1", "expected_output": "x"}, ("not_applicable", "reference_is_no_number")),
    ({"kind": "eval_spec", "spec": {"output_fields": {"n": {"type": "number", "weight": 80}}}}, {"output": '{"n": 12}', "expected_output": {"n": 0}}, 0.6),
    ({"kind": "eval_spec", "spec": {"output_fields": {"n": {"type": "number", "weight": 80}}}}, {"output": {"error": "boom"}, "expected_output": {"n": 0}}, ("skipped", "execution_error")),
    ({"kind": "latency", "max_ms": 10}, {"latency_ms": 10}, 1),
    ({"kind": "latency", "max_ms": 10}, {"output": "x"}, ("abstained", "not_measured")),
    ({"kind": "cost", "max_usd": 0.1}, {"cost_usd": 0.2}, 0),
    ({"kind": "turn_count", "max_turns": 2}, {"turns": ["a", "b"]}, 1),
    ({"kind": "tool_selection"}, {"tool_calls": CALLS, "expected_tool_calls": ["search", "buy"]}, 0.5),
    ({"kind": "tool_selection", "vocabulary": ["search"]}, {"tool_calls": CALLS}, 0.5),
    ({"kind": "tool_selection"}, {"tool_calls": CALLS}, ("abstained", "no_reference")),
    ({"kind": "tool_selection"}, {"tool_calls": []}, ("abstained", "no_calls")),
    ({"kind": "tool_selection"}, {"output": "x"}, ("abstained", "no_tool_trace")),
    ({"kind": "tool_args_match"}, {"tool_calls": CALLS, "expected_tool_calls": [{"name": "search", "arguments": '{"n": 5, "q": "x"}'}]}, 1),
    ({"kind": "tool_args_match"}, {"tool_calls": CALLS, "expected_tool_calls": [{"name": "search", "arguments": {"q": "x"}}]}, 0),
    ({"kind": "tool_args_match", "mode": "superset"}, {"tool_calls": CALLS, "expected_tool_calls": [{"name": "search", "arguments": {"q": "x"}}]}, 1),
    ({"kind": "tool_args_match", "mode": "subset"}, {"tool_calls": CALLS, "expected_tool_calls": [{"name": "search", "arguments": {"q": "x"}}]}, 0),
    ({"kind": "tool_args_match", "tools": {"search": ["q"]}}, {"tool_calls": CALLS, "expected_tool_calls": [{"name": "search", "arguments": {"q": "x", "n": 9}}]}, 1),
    ({"kind": "tool_args_match", "mode": "ignore"}, {"tool_calls": CALLS, "expected_tool_calls": ["search", "search"]}, 0.5),
    ({"kind": "trajectory"}, {"tool_calls": CALLS, "expected_tool_calls": ["open", "search"]}, 1),
    ({"kind": "trajectory", "mode": "strict"}, {"tool_calls": CALLS, "expected_tool_calls": ["open", "search"]}, 0),
    ({"kind": "trajectory", "mode": "strict"}, {"tool_calls": CALLS, "expected_tool_calls": ["search", "open"]}, 1),
    ({"kind": "trajectory", "mode": "subset"}, {"tool_calls": CALLS, "expected_tool_calls": ["open", "buy", "search"]}, 1),
    ({"kind": "trajectory", "mode": "superset"}, {"tool_calls": CALLS, "expected_tool_calls": ["open"]}, 1),
    ({"kind": "trajectory", "mode": "superset"}, {"tool_calls": CALLS, "expected_tool_calls": ["buy"]}, 0),
    ({"kind": "trajectory", "mode": "subsequence"}, {"tool_calls": CALLS, "expected_tool_calls": ["search", "buy", "open"]}, 0.666667),
    ({"kind": "trajectory", "arguments": "exact"}, {"tool_calls": CALLS[:1], "expected_tool_calls": ["search"]}, 0),
    ({"kind": "no_redundant_calls"}, {"tool_calls": [*CALLS, CALLS[0]]}, 0.666667),
    ({"kind": "trajectory_terminals"}, {"tool_calls": CALLS, "expected_tool_calls": ["search", "x", "open"]}, 1),
    ({"kind": "trajectory_terminals", "last": "search"}, {"tool_calls": CALLS}, 0),
    ({"kind": "subgoal_progress", "subgoals": ["open", "thank you", "pay"]}, {"tool_calls": CALLS, "output": "Thank you!"}, 0.666667),
    ({"kind": "goal_state_match"}, {"final_state": {"a": {"b": 1, "c": 2}}, "goal_state": {"a": {"b": 1}}}, 1),
    ({"kind": "goal_state_match"}, {"output": {"a": 2}, "expected_output": {"a": 1}}, 0),
]  # fmt: skip


def test_what_every_evaluator_says() -> None:
    said = [_said(evaluator, **fields) for evaluator, fields, _ in TABLE]

    rounded = [round(value, 6) if isinstance(value, float) else value for value in said]
    assert [(e["kind"], f, wanted) for e, f, wanted in TABLE] == [
        (e["kind"], f, value) for (e, f, _), value in zip(TABLE, rounded, strict=True)
    ]


def test_every_kind_is_in_the_table() -> None:
    kinds = {
        part["properties"]["kind"]["const"]
        for part in READ.json_schema()["$defs"].values()
        if "kind" in part["properties"]
    }

    assert kinds == {evaluator["kind"] for evaluator, _, _ in TABLE}


def test_a_schema_fetches_nothing() -> None:
    evaluator = READ.validate_python({"kind": "json_schema_valid", "schema": {"$ref": "http://127.0.0.1:9/x.json"}})

    with pytest.raises(ValueError, match="refers to its own parts only"):
        evaluator.prepare()


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_value_outside_of_0_and_1_is_no_score(value: float) -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        scored(value)


@pytest.mark.parametrize("outcome", Outcome)
def test_there_is_a_value_if_and_only_if_it_was_scored(outcome: Outcome) -> None:
    wrong = None if outcome is Outcome.SCORED else 0.5

    with pytest.raises(ValueError, match="a score that is"):
        Score(outcome, wrong)


def test_only_what_was_scored_is_in_the_mean_and_the_coverage_says_so() -> None:
    tally = Tally()
    for score in (
        passed(True),
        passed(False),
        scored(0.2),
        abstained("x"),
        failed("y"),
        Score(Outcome.NOT_APPLICABLE),
    ):
        tally.add(score)

    assert 0.4 == pytest.approx(tally.mean())
    assert {
        "scored": 3, "total": 6, "coverage_rate": 0.6, "abstained": 1, "not_applicable": 1, "skipped": 0, "error": 1,
    } == tally.coverage()  # fmt: skip


def test_an_output_line_of_inference_is_an_item() -> None:
    """What `output.jsonl` says of a row is found, whether it was answered or not."""
    about = {
        "order": 0,
        "repetition": 1,
        "output": "yes",
        "expected_output": "no",
        "latency_ms": 3.5,
        "cost_usd": 0.1,
    }
    line = {
        "id": "row_1",
        "custom_id": "a",
        "response": {"body": {"model": "m"}},
        "error": None,
        "x_overmind": about,
    }

    answered = _item(**line)
    failed_one = _item(**{**line, "response": None, "error": {"code": "timeout", "message": "slow"}})

    assert ("a#1", "yes", "no", 3.5, 0.1, "m") == (
        answered.id, answered.output, answered.expected, answered.latency_ms, answered.cost_usd, answered.model,
    )  # fmt: skip
    assert ("execution_error", "slow") == (failed_one.absence, failed_one.failure)


def test_a_batch_output_of_a_provider_is_an_item() -> None:
    call = {"type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}
    bodies = [{"choices": [{"message": {"content": "hi"}}]}, {"choices": [{"message": {"tool_calls": [call]}}]}, {}]

    said, called, neither = (
        _item(id=str(n), custom_id="a", response={"status_code": 200, "body": body})
        for n, body in enumerate(bodies)
    )

    assert "hi" == said.output
    assert called.tool_calls is not None
    assert [("search", {"q": "x"})] == [(c.name, c.arguments) for c in called.tool_calls]
    assert "missing_output" == neither.absence
