"""A stranger's JSON schema: what fits, and what becomes of schemas that are made to hurt."""

from __future__ import annotations

from typing import Any

import pytest

from overmind_executors.schemas.check import SchemaCheck, SchemaNotUsable
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.json_checks import JsonSchemaValid

LEVELS = 40
# Each level asks the one below twice, and none ever says yes.
DOUBLING = {
    "$defs": {
        "l0": {"type": "string"},
        **{f"l{n}": {"anyOf": [{"$ref": f"#/$defs/l{n - 1}"}] * 2} for n in range(1, LEVELS)},
    },
    "if": {"type": "integer"},
    "then": {"$ref": f"#/$defs/l{LEVELS - 1}"},
}
# No room for a compiled pattern of that size in any engine.
LARGE_PATTERNS = {"patternProperties": {"((a{900}){900}){900}": True}}
SELF = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}, "$ref": "#/$defs/a"}


def test_a_schema_is_asked_again_and_again() -> None:
    check = SchemaCheck({"type": "object", "required": ["a"], "patternProperties": {"^n_": {"type": "number"}}})

    said = [check.check(value) for value in ({"a": 1}, {}, [], None, {"a": "ä\n", "n_1": 2}, {"a": 1, "n_1": "2"})]

    assert ["fits", "does_not_fit", "does_not_fit", "does_not_fit", "fits", "does_not_fit"] == said


def test_a_schema_that_would_take_for_ever_is_an_error_of_that_row_alone() -> None:
    check = SchemaCheck(DOUBLING, cpu_s=0.1)

    said = [check.check(value) for value in ("text", 7, "text")]

    assert ["fits", "schema_timeout", "fits"] == said


def test_after_some_lost_children_no_more_are_tried() -> None:
    check = SchemaCheck(DOUBLING, cpu_s=0.05, most_lost=2)

    said = [check.check(value) for value in (7, "text", 7, "text")]

    assert ["schema_timeout", "fits", "schema_timeout", "schema_timeout"] == said


@pytest.mark.parametrize(
    "schema", [{"type": 7}, LARGE_PATTERNS, {"pattern": "("}, {"$ref": "http://127.0.0.1:9/x"}]
)
def test_a_schema_that_cannot_be_used_is_refused_before_the_first_row(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaNotUsable):
        SchemaCheck(schema).prepare()


def test_a_schema_that_stands_within_itself_ends_no_job() -> None:
    check = SchemaCheck(SELF)

    assert check.check(None) in ("fits", "schema_crash", "schema_timeout")


def test_an_evaluator_says_that_its_schema_took_too_long() -> None:
    score = JsonSchemaValid(schema=DOUBLING).evaluate(Item("a", 1, 7, None, None))

    assert ("error", "schema_timeout") == (score.outcome, score.code)
