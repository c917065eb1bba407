"""One call with its retries, against a real server that misbehaves in every way we know."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.model_client import Interrupted, ModelClient, ProviderGone
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.timed_http import MAX_ANSWER_BYTES
from overmind_executors.contract import ModelEndpoint
from overmind_executors.stopping import StopFlag
from zoo import AtOnce, Completion, Drip, Fault, Hang, PerSecond, Raw, Reset, Status, Zoo

QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)
BODY = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


# What a call may take on top of its deadline.
SLACK_S = 0.5


class Notes:
    """A CallRecord that remembers."""

    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def __init__(self) -> None:
        self.heard: list[str] = []

    def reserve(self) -> None:
        self.heard.append("reserve")

    def sent(self) -> None:
        self.heard.append("sent")

    def done(self, answer: Answer, *, is_final: bool) -> None:
        self.heard.append(f"{answer.kind}{'!' if is_final else ''}")


@pytest.fixture
def make_client(zoo: Zoo) -> Callable[..., ModelClient]:
    def make(*, policy: RetryPolicy = QUICK, stop: StopFlag | None = None, **endpoint: Any) -> ModelClient:
        fields = {"name": "echo", "base_url": zoo.url, "model": "echo", "api_key": "sk-canary", **endpoint}
        return ModelClient(ModelEndpoint(**fields), stop=stop or StopFlag(), policy=policy)

    return make


def _ask(
    client: ModelClient, *, timeout_s: float = 5, body: dict[str, Any] = BODY, notes: Notes | None = None
) -> Answer:
    return client.ask(body, timeout_s=timeout_s, record=notes or Notes())


def test_a_good_answer_with_its_usage(make_client: Callable[..., ModelClient]) -> None:
    notes = Notes()

    answer = _ask(make_client(), notes=notes)

    assert ("ok", "hi", 1, 1, 1, 200) == (
        answer.kind,
        answer.output,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.attempts,
        answer.status,
    )
    assert ["reserve", "sent", "ok!"] == notes.heard


def _said(message: dict[str, Any], finish_reason: str = "stop") -> Fault:
    return Completion(message, finish_reason)


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ONE_CALL: dict[str, tuple[Fault, Kind, Any]] = {
    "cut at the limit": (_said({"content": "hal"}, "length"), Kind.TRUNCATED, "hal"),
    "empty text": (_said({"content": ""}), Kind.OK, ""),
    "text in parts": (_said({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}), Kind.OK, "ab"),
    "a tool": (
        _said({"content": None, "tool_calls": [CALL]}, "tool_calls"),
        Kind.OK,
        {"content": None, "tool_calls": [CALL]},
    ),
    "a refusal": (_said({"content": None, "refusal": "I cannot."}), Kind.REFUSED, None),
    "a filter": (_said({"content": None}, "content_filter"), Kind.CONTENT_FILTER, None),
    "a filter by status": (Status(400, body=b'{"error": {"code": "content_filter"}}'), Kind.CONTENT_FILTER, None),
    "no content": (_said({"content": None}), Kind.INVALID_RESPONSE, None),
    "not JSON": (Raw(b"<html>"), Kind.INVALID_RESPONSE, None),
    "cut JSON of the right length": (Raw(b'{"choices": ['), Kind.INVALID_RESPONSE, None),
    "nothing": (Raw(b""), Kind.INVALID_RESPONSE, None),
    "null": (Raw(b"null"), Kind.INVALID_RESPONSE, None),
    "a list": (Raw(b"[]"), Kind.INVALID_RESPONSE, None),
    "no choice": (Raw(b'{"choices": []}'), Kind.INVALID_RESPONSE, None),
    "choices of another kind": (Raw(b'{"choices": {"0": 1}}'), Kind.INVALID_RESPONSE, None),
    "a message of another kind": (Raw(b'{"choices": [{"message": "hi"}]}'), Kind.INVALID_RESPONSE, None),
    "NaN": (Raw(b'{"choices": NaN}'), Kind.INVALID_RESPONSE, None),
    "deep": (Raw(b"[" * 100_000), Kind.INVALID_RESPONSE, None),
    "9 MiB": (Raw(b"x" * (MAX_ANSWER_BYTES + 1)), Kind.INVALID_RESPONSE, None),
    "a redirect": (Status(302, {"Location": "http://127.0.0.1:1/"}), Kind.BAD_REQUEST, None),
    "no content by status": (Status(204, body=b""), Kind.BAD_REQUEST, None),
    "401": (Status(401), Kind.AUTH_ERROR, None),
    "403": (Status(403), Kind.AUTH_ERROR, None),
    "402": (Status(402), Kind.QUOTA_EXHAUSTED, None),
    "429 for want of money": (
        Status(429, body=b'{"error": {"code": "insufficient_quota"}}'),
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    "400": (Status(400), Kind.BAD_REQUEST, None),
    "404": (Status(404), Kind.BAD_REQUEST, None),
    "413": (Status(413), Kind.BAD_REQUEST, None),
    "422 without JSON": (Status(422, body=b"no"), Kind.BAD_REQUEST, None),
    "400 with words": (Status(400, body=b'{"error": "bad"}'), Kind.BAD_REQUEST, None),
}


@pytest.mark.parametrize(("fault", "kind", "output"), ONE_CALL.values(), ids=ONE_CALL.keys())
def test_an_answer_that_would_be_the_same_again_is_not_asked_for_again(
    zoo: Zoo, make_client: Callable[..., ModelClient], fault: Fault, kind: Kind, output: Any
) -> None:
    zoo.fail("hi", fault)

    answer = _ask(make_client())

    assert (kind, output) == (answer.kind, answer.output)
    assert 1 == zoo.total
    assert kind.has_output == (answer.message == "")


RETRIED: dict[str, tuple[Fault, Kind]] = {
    **{str(code): (Status(code), Kind.PROVIDER_ERROR) for code in (408, 409, 425, 500, 502, 504)},
    **{str(code): (Status(code), Kind.OVERLOADED) for code in (503, 529)},
    "429": (Status(429), Kind.RATE_LIMITED),
    "a reset": (Reset(), Kind.NETWORK_ERROR),
    "a stream that is cut": (Raw(b'{"choices"', length=1000), Kind.NETWORK_ERROR),
}


@pytest.mark.parametrize(("fault", "kind"), RETRIED.values(), ids=RETRIED.keys())
def test_what_may_go_better_is_tried_again(
    zoo: Zoo, make_client: Callable[..., ModelClient], fault: Fault, kind: Kind
) -> None:
    zoo.fail("hi", fault, times=2)
    notes = Notes()

    answer = _ask(make_client(), notes=notes)

    assert (Kind.OK, 3) == (answer.kind, answer.attempts)
    assert ["reserve", "sent", kind, "reserve", "sent", kind, "reserve", "sent", "ok!"] == notes.heard
    assert 2 * kind.is_refusal == answer.refusals


@pytest.mark.parametrize(("code", "calls"), [(500, 4), (429, 10)])
def test_a_row_is_given_up_after_its_attempts(
    zoo: Zoo, make_client: Callable[..., ModelClient], code: int, calls: int
) -> None:
    zoo.fail("hi", Status(code))

    answer = _ask(make_client())

    assert calls == zoo.total == answer.attempts
    assert f"HTTP status {code}: the zoo is closed" == answer.message


def test_a_provider_that_is_dead_is_given_up_for_the_whole_job(make_client: Callable[..., ModelClient]) -> None:
    client = make_client(base_url="http://127.0.0.1:9/v1", policy=RetryPolicy(base_s=0.001, cap_s=0.002, budget=5))
    first = _ask(client)

    with pytest.raises(ProviderGone) as gone:
        _ask(client)

    assert 4 == first.attempts
    assert Kind.NETWORK_ERROR == gone.value.answer.kind
    assert "the connection failed (ConnectionRefusedError)" == gone.value.answer.message


@pytest.mark.parametrize("fault", [Hang(), Drip(), Drip(headers=True)], ids=["hang", "body drips", "headers drip"])
def test_a_call_ends_at_its_deadline_however_the_server_holds_it(
    zoo: Zoo, make_client: Callable[..., ModelClient], fault: Fault
) -> None:
    zoo.fail("hi", fault, times=1)
    client = make_client()
    began = time.monotonic()

    answer = _ask(client, timeout_s=0.4)

    assert 0.35 < time.monotonic() - began < 0.4 + SLACK_S
    assert (Kind.TIMEOUT, "no whole answer within 0.4 s") == (answer.kind, answer.message)
    assert 1 == zoo.total
    assert Kind.OK == _ask(client).kind, "the next call has a connection of its own"


def test_the_addresses_of_a_name_share_the_time_of_a_call(
    make_client: Callable[..., ModelClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At none of four does anybody take the connection."""
    look_up = socket.getaddrinfo

    def four(host: str, port: int, *how: Any, **more: Any) -> Any:
        names = [f"127.0.0.{number}" for number in range(1, 5)] if host == "localhost" else [host]
        return [line for name in names for line in look_up(name, port, *how, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", four)
    with ExitStack() as until_the_end:
        full = until_the_end.enter_context(socket.create_server(("", 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(3):  # more than the system keeps for it
            waiting = until_the_end.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        began = time.monotonic()

        answer = _ask(make_client(base_url=f"http://localhost:{port}/v1"), timeout_s=0.4)
        took_s = time.monotonic() - began

    assert Kind.TIMEOUT is answer.kind
    assert took_s < 0.4 + SLACK_S


def test_the_hosts_limit_for_an_endpoint_holds_too(zoo: Zoo, make_client: Callable[..., ModelClient]) -> None:
    zoo.fail("hi", Hang())

    answer = _ask(make_client(timeout_s=0.2), timeout_s=60)

    assert "no whole answer within 0.2 s" == answer.message


def test_one_refusal_holds_back_all_threads(zoo: Zoo, make_client: Callable[..., ModelClient]) -> None:
    """Eight threads and one 429 that asks for 0.3 s: nobody sends anything for that long."""
    zoo.fail("first", Status(429, {"Retry-After": "0.3"}), times=1)
    client = make_client(max_concurrency=8)
    refused = threading.Event()
    times: list[float] = []

    class Clock(Notes):
        def done(self, answer: Answer, *, is_final: bool) -> None:
            if answer.kind is Kind.RATE_LIMITED:
                times.append(time.monotonic())
                threading.Timer(0.05, refused.set).start()

    def others(number: int) -> float:
        refused.wait(5)
        _ask(client, body={**BODY, "messages": [{"role": "user", "content": f"other {number}"}]})
        return time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        ended = [pool.submit(others, number) for number in range(7)]
        first = {**BODY, "messages": [{"role": "user", "content": "first"}]}
        answer = client.ask(first, timeout_s=5, record=Clock())
        assert all(future.result() - times[0] >= 0.3 for future in ended)

    assert (Kind.OK, 2, 1) == (answer.kind, answer.attempts, answer.refusals)
    assert 9 == zoo.total


def test_no_more_calls_at_once_than_the_endpoint_takes(zoo: Zoo, make_client: Callable[..., ModelClient]) -> None:
    client = make_client(max_concurrency=3)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: _ask(client), range(48)))

    assert 48 == zoo.total
    assert zoo.peak <= 3


def test_a_call_that_is_cut_because_the_job_stops_is_not_done(
    zoo: Zoo, make_client: Callable[..., ModelClient]
) -> None:
    zoo.fail("hi", Hang())
    stop, notes = StopFlag(), Notes()
    client = make_client(stop=stop)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_ask, client, timeout_s=60, notes=notes)
        zoo.wait_for_calls(1)
        stop.set()
        client.cut_after(0.05)
        with pytest.raises(Interrupted):
            asked.result(5)

    assert ["reserve", "sent"] == notes.heard


def test_a_call_in_flight_may_end_within_the_grace(zoo: Zoo, make_client: Callable[..., ModelClient]) -> None:
    zoo.close_gate(after=0)
    stop, notes = StopFlag(), Notes()
    client = make_client(stop=stop)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_ask, client, timeout_s=60, notes=notes)
        zoo.wait_for_calls(1)
        stop.set()
        zoo.open_gate()
        client.cut_after(5)

    assert Kind.OK == asked.result().kind
    assert ["reserve", "sent", "ok!"] == notes.heard


def test_a_waiting_retry_ends_when_the_job_stops(zoo: Zoo, make_client: Callable[..., ModelClient]) -> None:
    zoo.fail("hi", Status(500))
    stop = StopFlag()
    client = make_client(stop=stop, policy=RetryPolicy(base_s=60, cap_s=60))

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_ask, client)
        zoo.wait_for_calls(1)
        stop.set()
        with pytest.raises(Interrupted):
            asked.result(5)


@pytest.mark.parametrize(
    ("text", "kind"), [('{"a": 1}', Kind.OK), ("no", Kind.INVALID_RESPONSE), ('{"a": NaN}', Kind.INVALID_RESPONSE)]
)
def test_an_output_that_is_not_the_json_asked_for_is_invalid(
    zoo: Zoo, make_client: Callable[..., ModelClient], text: str, kind: Kind
) -> None:
    body = {
        "model": "echo",
        "messages": [{"role": "user", "content": text}],
        "response_format": {"type": "json_object"},
    }

    assert kind == _ask(make_client(), body=body).kind


def test_a_provider_that_quotes_the_key_does_not_spread_it(
    zoo: Zoo, make_client: Callable[..., ModelClient]
) -> None:
    zoo.fail("hi", Status(401, body=b'{"error": {"message": "wrong key sk-canary, sorry"}}'), times=1)
    zoo.fail("hi", Completion({"content": "your key is sk-canary"}))
    client = make_client()

    refused, said = _ask(client), _ask(client)

    assert "HTTP status 401: wrong key [redacted], sorry" == refused.message
    assert "your key is [redacted]" == said.output
    assert "sk-canary" not in refused.to_json() + said.to_json()


@pytest.mark.parametrize("key", ["sk\nX-Injected: 1", "sk-\u20ac"])
def test_a_key_that_is_no_header_is_a_failure_without_the_key(
    zoo: Zoo, make_client: Callable[..., ModelClient], key: str
) -> None:
    answer = _ask(make_client(api_key=key))

    assert 0 == zoo.total
    assert Kind.NETWORK_ERROR == answer.kind
    assert "sk" not in answer.message


def test_the_environment_sends_nobody_elsewhere(
    zoo: Zoo, make_client: Callable[..., ModelClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert Kind.OK == _ask(make_client()).kind


def test_an_answer_survives_the_journal(make_client: Callable[..., ModelClient]) -> None:
    answer = _ask(make_client())

    assert answer == Answer.from_json(answer.to_json())
    assert json.loads(answer.to_json())["kind"] == "ok"


@pytest.mark.parametrize("limit", [AtOnce(6), PerSecond(150, burst=10)], ids=["at once", "a second"])
def test_a_provider_with_a_limit_refuses_few_calls_and_every_row_is_answered(
    zoo: Zoo, make_client: Callable[..., ModelClient], limit: AtOnce | PerSecond
) -> None:
    """One and the same client, forty threads, and a provider that says nothing but 429."""
    zoo.limit(limit, latency_s=0.02)
    client = make_client(max_concurrency=40, policy=RetryPolicy(base_s=0.01, cap_s=0.1))

    def ask(number: int) -> Answer:
        return _ask(client, body={**BODY, "messages": [{"role": "user", "content": f"row {number}"}]})

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(300)))

    assert [Kind.OK] * 300 == [answer.kind for answer in answers]
    assert 0 < zoo.refused <= 45
    assert zoo.refused == sum(answer.refusals for answer in answers)
