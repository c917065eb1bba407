"""Outputs that have to be JSON of a form: each is checked, and a model that missed it is told so once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.paid_model import NotAsked
from overmind_executors.contract import InvalidParameters, Problem
from overmind_executors.schemas.check import NoSchemaLibrary, SchemaCheck, SchemaNotUsable
from overmind_executors.scoring.evaluator import INSTALL_SCORING

Ask = Callable[[Mapping[str, Any]], Answer | NotAsked]
REPAIR: Final = (
    "That is not what was asked for: {fault}. Answer again, with JSON that fits the schema and nothing else, no "
    "fence and no other word. The schema:\n{schema}"
)
_MISS: Final = "does_not_fit"
_FAULTS: Final[Mapping[str, str]] = {
    "not_json": "the output is not JSON",
    _MISS: "the output does not fit the schema",
    "schema_timeout": "the schema takes too long for this output",
    "schema_crash": "the schema takes too much memory for this output",
}


class OutputSchema:
    """
    Safe from any thread.

    Raises:
        InvalidParameters: of `__init__`: the schema cannot be used, or this host has nothing to check it with.
    """

    def __init__(self, schema: Mapping[str, Any], *, repairs: bool) -> None:
        self._schema = strict_json.dumps(schema)
        self._repairs = repairs
        self._check = SchemaCheck(schema)
        try:
            self._check.prepare()
        except NoSchemaLibrary:
            problem = Problem("output_schema", f"jsonschema-rs is not installed; {INSTALL_SCORING}")
            raise InvalidParameters(problem) from None
        except SchemaNotUsable as error:
            raise InvalidParameters(Problem("output_schema", f"cannot be used: {error}")) from None

    def answer(self, ask: Ask, body: Mapping[str, Any]) -> tuple[Answer | NotAsked, bool]:
        """
        What *ask* says to *body*, checked; with the costs of both when it was asked once more.

        Returns:
            The answer, `schema_mismatch` where it has an output that does not fit; whether it was asked once more.
        """
        first = ask(body)
        fault = self._fault(first)
        if isinstance(first, NotAsked) or not fault:
            return first, False
        if not self._repairs or fault not in ("not_json", _MISS):
            return _mismatch(first, fault), False
        second = ask({**body, "messages": self._told(body, first, fault)})
        if isinstance(second, NotAsked):
            return _mismatch(first, fault), False
        both = _with_costs_of(first, second)
        still = self._fault(second)
        return (_mismatch(both, still) if still else both), True

    def _fault(self, answer: Answer | NotAsked) -> str:
        """A key of _FAULTS; empty for an output that fits, and for what has another fault or calls tools."""
        if isinstance(answer, NotAsked) or answer.kind is not Kind.OK:
            return ""
        value = answer.output
        if isinstance(value, dict) and "tool_calls" in value:
            return ""
        if isinstance(value, str):
            try:
                value = strict_json.loads(value.strip())
            except strict_json.NotJson:
                return "not_json"
        verdict = self._check.check(value)
        return "" if verdict == "fits" else verdict

    def _told(self, body: Mapping[str, Any], answer: Answer, fault: str) -> list[Any]:
        said = answer.output if isinstance(answer.output, str) else strict_json.dumps(answer.output)
        again = REPAIR.format(fault=_FAULTS[fault], schema=self._schema)
        earlier = body.get("messages")
        return [
            *(earlier if isinstance(earlier, list) else ()),
            {"role": "assistant", "content": said},
            {"role": "user", "content": again},
        ]


def _mismatch(answer: Answer, fault: str) -> Answer:
    return replace(answer, kind=Kind.SCHEMA_MISMATCH, message=_FAULTS[fault], body=None)


def _with_costs_of(first: Answer, second: Answer) -> Answer:
    is_priced = first.cost_usd is not None and second.cost_usd is not None
    return replace(
        second,
        prompt_tokens=_sum(first.prompt_tokens, second.prompt_tokens),
        completion_tokens=_sum(first.completion_tokens, second.completion_tokens),
        cost_usd=round((first.cost_usd or 0.0) + (second.cost_usd or 0.0), 10) if is_priced else None,
        latency_ms=round(first.latency_ms + second.latency_ms, 3),
        started_at=first.started_at,
        attempts=first.attempts + second.attempts,
        refusals=first.refusals + second.refusals,
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)
