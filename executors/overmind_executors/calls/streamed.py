"""
A streamed chat completion put together again, and when its first piece came.

Source:
    WHATWG HTML, "Server-sent events": an event ends with an empty line, its data stands behind `data:`. OpenAI's
    chunks hold deltas of the message; the last one, with `include_usage`, has no choice and the usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.timed_http import Reply

MEDIA_TYPE: Final = "text/event-stream"
_DONE: Final = b"[DONE]"


def is_streamed(reply: Reply) -> bool:
    """Whether the answer came in events."""
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower() == MEDIA_TYPE


def whole(reply: Reply) -> tuple[dict[str, Any] | None, float | None]:
    """
    The completion that the events of *reply* make, as if it had not been streamed.

    Returns:
        None for what is no such stream, or was cut before its end; and the seconds to the first event with
        something of the answer in it, None when there was none.
    """
    made: dict[str, Any] = {}
    message: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    finish, first_s, is_whole = None, None, False
    for end, data in _events(reply.body):
        if data == _DONE:
            is_whole = True
            break
        try:
            event = strict_json.loads(data.decode("utf-8", errors="replace"))
        except strict_json.NotJson:
            return None, first_s
        if not isinstance(event, dict):
            return None, first_s
        made |= {key: value for key, value in event.items() if key != "choices" and value is not None}
        for choice in _objects(event.get("choices"))[:1]:
            delta = choice.get("delta")
            if isinstance(delta, dict) and _add(message, calls, delta) and first_s is None:
                first_s = _at(reply, end)
            finish = choice.get("finish_reason") or finish
    if not (is_whole or finish):
        return None, first_s
    if calls:
        message["tool_calls"] = [call for _, call in sorted(calls.items())]
    return {**made, "choices": [{"message": message, "finish_reason": finish}]}, first_s


def _events(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each event with data ends, and its data."""
    at = 0
    for line in body.splitlines(keepends=True):
        at += len(line)
        if line.startswith(b"data:"):
            yield at, line[5:].strip()


def _add(message: dict[str, Any], calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> bool:
    """Add *delta*; whether it brought something of the answer."""
    has_text = False
    for name in ("content", "refusal"):
        if isinstance(piece := delta.get(name), str):
            message[name] = message.get(name, "") + piece
            has_text = has_text or bool(piece)
    for place, piece in enumerate(_objects(delta.get("tool_calls"))):
        told_number = piece.get("index")
        number = told_number if isinstance(told_number, int) else place
        call = calls.setdefault(number, {"type": "function", "function": {"name": "", "arguments": ""}})
        if isinstance(piece.get("id"), str):
            call["id"] = piece["id"]
        told = piece.get("function")
        for name in ("name", "arguments"):
            if isinstance(told, dict) and isinstance(told.get(name), str):
                call["function"][name] += told[name]
        has_text = True
    return has_text


def _at(reply: Reply, end: int) -> float | None:
    """The seconds after which the first *end* bytes were there."""
    return next((seconds for size, seconds in reply.arrivals if size >= end), None)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
