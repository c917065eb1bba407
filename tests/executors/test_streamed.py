"""A streamed completion is put together again: whatever pieces it came in, and nothing of one that was cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from overmind_executors.calls import answers
from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.timed_http import Reply


def event(**choice: Any) -> bytes:
    """One chunk with one choice."""
    return b"data: " + json.dumps({"id": "c-1", "choices": [choice]}).encode() + b"\n\n"


def text(content: str, finish: str | None = None) -> bytes:
    """A chunk that brings *content*."""
    return event(delta={"content": content}, finish_reason=finish)


def read(*pieces: bytes) -> Answer:
    """What an answer says whose pieces came a second apart."""
    arrivals = tuple((len(b"".join(pieces[: n + 1])), float(n + 1)) for n in range(len(pieces)))
    reply = Reply(200, {"content-type": "text/event-stream; charset=utf-8"}, b"".join(pieces), 9.0, arrivals)
    return answers.read(reply, secret="sk-canary", request={})


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"


def test_an_answer_in_pieces_is_one_answer() -> None:
    """The role comes first and is nothing of the answer; a line that is a comment is none."""
    role = event(delta={"role": "assistant", "content": ""})

    found = read(role, b": keep alive\n\n", text("It is "), text("fine.", "stop"), USAGE + DONE)

    assert (Kind.OK, "It is fine.", "c-1") == (found.kind, found.output, found.request_id)
    assert (3, 2, 3000.0, 9000.0) == (
        found.prompt_tokens, found.completion_tokens, found.first_token_ms, found.latency_ms
    )  # fmt: skip


def test_an_event_may_be_cut_anywhere_by_the_network() -> None:
    whole = text("fine", "stop")

    found = read(whole[:20], whole[20:], DONE)

    assert ("fine", 2000.0) == (found.output, found.first_token_ms)


def test_calls_of_tools_come_in_pieces_too() -> None:
    pieces = [
        {"index": 0, "id": "t1", "function": {"name": "look_up", "arguments": '{"city"'}},
        {"index": 1, "id": "t2", "function": {"name": "wait", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": ': "Ulm"}'}},
    ]

    found = read(
        *(event(delta={"tool_calls": [one]}) for one in pieces), event(delta={}, finish_reason="tool_calls")
    )

    assert [("look_up", '{"city": "Ulm"}'), ("wait", "{}")] == [
        (call["function"]["name"], call["function"]["arguments"]) for call in found.output["tool_calls"]
    ]


@pytest.mark.parametrize(
    "pieces",
    [[text("It is")], [text("It"), b"data: {broken\n\n", DONE], [b"data: [1]\n\n", DONE], [b""]],
    ids=["cut", "not JSON", "no object", "empty"],
)
def test_what_is_no_whole_stream_is_no_answer(pieces: list[bytes]) -> None:
    found = read(*pieces)

    assert (Kind.INVALID_RESPONSE, None) == (found.kind, found.output)


def test_a_key_that_a_provider_quotes_in_two_pieces_is_taken_out() -> None:
    found = read(text("your key is sk-"), text("canary", "stop"), DONE)

    assert "your key is [redacted]" == found.output
