"""Evaluators that read an output as JSON: its schema, its fields, and what it cost."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from overmind_executors.schemas.check import NoSchemaLibrary, SchemaCheck
from overmind_executors.scoring.case_score import as_number, score_case
from overmind_executors.scoring.eval_spec import EvalSpec
from overmind_executors.scoring.evaluator import (
    INSTALL_SCORING,
    Evaluator,
    NotInstalled,
    expected_of,
    field_of,
    object_of,
)
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Score, abstained, failed, not_applicable, passed, scored, skipped
from overmind_executors.scoring.texts import NoJson, as_text, find_json, folded

CANONICAL_TOLERANCE = 0.01


class JsonSchemaValid(Evaluator):
    """
    The JSON in the output fits *json_schema*: the whole text, a fenced block, or the first balanced value in it. A
    schema may refer to its own parts only: nothing is fetched. One that takes more than half a second of processor
    time for an output is an error of that output, and so is one that takes all memory.
    """

    kind: Literal["json_schema_valid"] = "json_schema_valid"
    needs_output: ClassVar[bool] = False
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]

    def prepare(self) -> None:
        try:
            self._check.prepare()
        except NoSchemaLibrary:
            raise NotInstalled(f"jsonschema-rs is not installed; {INSTALL_SCORING}") from None

    def score(self, item: Item) -> Score:
        if item.absence:
            is_there = item.absence == "empty_output"
            return abstained(item.absence) if is_there else skipped(item.absence, item.failure)
        if not isinstance(item.output, str):
            return self._fits(item.output)
        try:
            found = find_json(item.output)
        except NoJson:
            return passed(False, "no_json")
        return self._fits(found)

    def _fits(self, value: Any) -> Score:
        verdict = self._check.check(value)
        known = {"fits": True, "does_not_fit": False}
        return passed(known[verdict]) if verdict in known else failed(verdict)

    @cached_property
    def _check(self) -> SchemaCheck:
        return SchemaCheck(self.json_schema)


class FieldPresent(Evaluator):
    """The share of *fields* that the output has, neither null nor empty text."""

    is_graded: ClassVar[bool] = True
    kind: Literal["field_present"] = "field_present"
    fields_named: Annotated[list[str], Field(alias="fields", min_length=1)]

    def score(self, item: Item) -> Score:
        found = object_of(item.output)
        return scored(sum(found.get(n) not in (None, "") for n in self.fields_named) / len(self.fields_named))


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


class SchemaFieldConformance(Evaluator):
    """The share of *types* (a JSON type for each field's name) that the output's fields have."""

    is_graded: ClassVar[bool] = True
    kind: Literal["schema_field_conformance"] = "schema_field_conformance"
    types: Annotated[
        dict[str, Literal["string", "number", "integer", "boolean", "object", "array", "null"]], Field(min_length=1)
    ]

    def score(self, item: Item) -> Score:
        found = object_of(item.output)
        fitting = sum(name in found and _is_a(found[name], wanted) for name, wanted in self.types.items())
        return scored(fitting / len(self.types))


def _is_a(value: Any, wanted: str) -> bool:
    is_boolean = isinstance(value, bool)
    return isinstance(value, _TYPES[wanted]) and (is_boolean == (wanted == "boolean"))


class CanonicalFields(Evaluator):
    """The share of the expected object's fields that the output has: numbers within 0.01, text folded."""

    is_graded: ClassVar[bool] = True
    kind: Literal["canonical_fields"] = "canonical_fields"

    def score(self, item: Item) -> Score:
        wanted = expected_of(item, None)
        if not isinstance(wanted, dict) or not wanted:
            return not_applicable("no_fields")
        found = object_of(item.output)
        return scored(sum(n in found and _is_same(found[n], value) for n, value in wanted.items()) / len(wanted))


def _is_same(said: Any, wanted: Any) -> bool:
    if isinstance(said, bool) or isinstance(wanted, bool):
        return said is wanted
    numbers = as_number(said), as_number(wanted)
    if numbers[0] is not None and numbers[1] is not None:
        return abs(numbers[0] - numbers[1]) <= CANONICAL_TOLERANCE + 1e-12
    return folded(as_text(said)) == folded(as_text(wanted))


class ReferenceFieldCompare(Evaluator):
    """A number of the output is the expected one, within an absolute or a relative tolerance."""

    kind: Literal["reference_field_compare"] = "reference_field_compare"
    field: str | None = None
    abs_tolerance: Annotated[float, Field(ge=0)] = 0.0
    rel_tolerance: Annotated[float, Field(ge=0)] = 0.0

    def score(self, item: Item) -> Score:
        wanted = as_number(expected_of(item, self.field))
        if wanted is None:
            return not_applicable("reference_is_no_number")
        said = as_number(field_of(item, self.field))
        if said is None:
            return passed(False, "not_a_number")
        return passed(math.isclose(said, wanted, rel_tol=self.rel_tolerance, abs_tol=self.abs_tolerance))


class EvalSpecScore(Evaluator):
    """The points of an eval spec, over its total. A judge's part is shared out over the fields."""

    is_graded: ClassVar[bool] = True
    kind: Literal["eval_spec"] = "eval_spec"
    spec: EvalSpec

    def score(self, item: Item) -> Score:
        wanted = expected_of(item, None)
        if not isinstance(wanted, dict):
            return abstained("reference_is_no_object")
        found = object_of(item.output)
        if found.get("error") is not None and not set(found) & set(self.spec.output_fields):
            return skipped("execution_error")  # how a program under test writes that it crashed
        case = score_case(self.spec.without_judge(), found, wanted, calls=item.tool_calls)
        if not case.possible:
            return not_applicable("nothing_expected")
        return scored(case.total / self.spec.total_points)


class _AtMost(Evaluator):
    """A figure of the row is not above a limit."""

    needs_output: ClassVar[bool] = False


class Latency(_AtMost):
    """The output took *max_ms* milliseconds at most."""

    kind: Literal["latency"] = "latency"
    max_ms: Annotated[float, Field(gt=0)]

    def score(self, item: Item) -> Score:
        return _within(item.latency_ms, self.max_ms)


class Cost(_AtMost):
    """The output cost *max_usd* US dollars at most."""

    kind: Literal["cost"] = "cost"
    max_usd: Annotated[float, Field(ge=0)]

    def score(self, item: Item) -> Score:
        return _within(item.cost_usd, self.max_usd)


class TurnCount(_AtMost):
    """The conversation had *max_turns* turns at most."""

    kind: Literal["turn_count"] = "turn_count"
    max_turns: Annotated[int, Field(ge=1)]

    def score(self, item: Item) -> Score:
        return _within(item.turns, self.max_turns)


def _within(value: float | None, limit: float) -> Score:
    return abstained("not_measured") if value is None else passed(value <= limit)
