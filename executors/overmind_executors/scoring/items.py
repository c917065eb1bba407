"""
What is to be scored: one output with its input and what is known of it, from a row in any of the usual forms.

| row | from |
|---|---|
| `{"id", "input", "output", "expected_output", …}` | by hand, a data set |
| `{"datapoint_id", "output", "success", "error", "latency_ms", …}` | outputs taken in from elsewhere |
| `{"custom_id", "response", "error", "x_overmind"}` | `output.jsonl` of an `inference` job, OpenAI's batch output |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.rows.rows import Row

_MAX_NAME: Final = 100
_MAX_ID: Final = 256
PLACEHOLDER: Final = "-"
"""What some tools write where there is no output."""


class _Missing:
    """An output that is not there, which is something else than null."""


MISSING: Final = _Missing()


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; *arguments* is what was written when that is no JSON object; *result* if on record."""

    name: str
    arguments: Any
    result: Any = None


@dataclass(frozen=True)
class Item:
    """
    One output.

    Attributes:
        output: MISSING when the row has none; null is an output.
        tool_calls: None when nothing is known of them, which is something else than none made.
        failure: why the program under test made no output; empty when it did.
        source: the row as it was, for fields that an evaluator names.
    """

    id: str
    line: int
    output: Any
    input: Any = None
    expected: Any = None
    tool_calls: tuple[ToolCall, ...] | None = None
    expected_tool_calls: tuple[ToolCall, ...] | None = None
    latency_ms: float | None = None
    cost_usd: float | None = None
    turns: int | None = None
    model: str = ""
    failure: str = ""
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def absence(self) -> str:
        """Why there is nothing to score: a code, empty when there is something."""
        if self.failure:
            return "execution_error"
        if isinstance(self.output, _Missing):
            return "missing_output"
        is_blank = isinstance(self.output, str) and self.output.strip() in ("", PLACEHOLDER)
        return "empty_output" if is_blank or self.output in (None, {}, []) else ""


def item_of(row: Row) -> Item:
    """*row* as an item. What it does not say stays unknown; nothing in it is trusted."""
    source = row.source
    about = _object(source.get("x_overmind")) or source
    output, calls = _output(source, about)
    own_calls = source.get("tool_calls", source.get("trajectory"))
    given = row.input if row.input is not None else source.get("input")
    return Item(
        id=_id(row, about),
        line=row.line,
        output=output,
        input=given,
        expected=_first(source, about, "expected_output", "expected"),
        tool_calls=_calls(own_calls) if own_calls is not None else calls,
        expected_tool_calls=_calls(source.get("expected_tool_calls")),
        latency_ms=_number(about.get("latency_ms")),
        cost_usd=_number(about.get("cost_usd")),
        turns=_turns(source),
        model=(_text(source.get("model")) or _text(_body(source).get("model")))[:_MAX_NAME],
        failure=_failure(source, about),
        source=source,
    )


def _id(row: Row, about: Mapping[str, Any]) -> str:
    named = row.source.get("custom_id", row.source.get("datapoint_id"))
    if not isinstance(named, str | int) or isinstance(named, bool) or named == "":
        return row.id
    # The shape of our own files: one line for each repetition of a row.
    repetition = about.get("repetition")
    number = f"#{repetition}" if isinstance(repetition, int) and repetition else ""
    return str(named)[:_MAX_ID] + number[:_MAX_NAME]


def _output(source: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[Any, tuple[ToolCall, ...] | None]:
    """The output, and the tool calls within it."""
    place = next((part for part in (source, about) if "output" in part), None)
    output: Any = MISSING
    if place is not None:
        output = place["output"]
    elif isinstance(source.get("response"), Mapping):
        output = _message(_body(source))
    if isinstance(output, Mapping) and isinstance(output.get("tool_calls"), list):
        return output, _calls(output["tool_calls"])
    return output, None


def _body(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The provider's answer in a line of OpenAI's batch output."""
    return _object(_object(source.get("response")).get("body"))


def _message(body: Mapping[str, Any]) -> Any:
    choices = body.get("choices")
    message = _object(_object(choices[0] if isinstance(choices, list) and choices else None).get("message"))
    if isinstance(message.get("tool_calls"), list):
        return {"content": message.get("content"), "tool_calls": message["tool_calls"]}
    return message["content"] if isinstance(message.get("content"), str) else MISSING


def _calls(given: Any) -> tuple[ToolCall, ...] | None:
    if not isinstance(given, list):
        return None
    return tuple(call for entry in given if (call := _call(entry)) is not None)


def _call(entry: Any) -> ToolCall | None:
    """`{"name", "arguments"}`, OpenAI's `{"function": {"name", "arguments": "…"}}`, or a bare name."""
    if isinstance(entry, str):
        return ToolCall(entry, {})
    part = _object(entry)
    part = _object(part.get("function")) or part
    name = part.get("name", part.get("tool"))
    if not isinstance(name, str):
        return None
    arguments = part.get("arguments", part.get("args", {}))
    if isinstance(arguments, str):
        with suppress(strict_json.NotJson):  # else what the caller wrote
            arguments = strict_json.loads(arguments)
    return ToolCall(name, arguments, part.get("result", _object(entry).get("result")))


def _failure(source: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    error = source.get("error", about.get("error"))
    if error not in (None, "", False, {}):
        words = error.get("message") or error.get("code") if isinstance(error, Mapping) else error
        return str(words or "error")[:200]
    return "the output is marked as failed" if about.get("success") is False else ""


def _turns(source: Mapping[str, Any]) -> int | None:
    given = source.get("turns", source.get("turn_count"))
    if isinstance(given, list):
        return len(given)
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


def _first(source: Mapping[str, Any], about: Mapping[str, Any], *names: str) -> Any:
    return next((part[n] for part in (source, about) for n in names if part.get(n) is not None), None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def names_of(calls: Sequence[ToolCall]) -> list[str]:
    """The tools that were called, in order."""
    return [call.name for call in calls]
