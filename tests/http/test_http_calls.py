"""One exchange: every status, every header, every shape of a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st

from overmind_agent import __version__
from overmind_agent.errors import AuthError, ClaimLost, ControlPlaneError, RejectedError, TransientError
from overmind_agent.over_http.calls import MIN_BYTES_PER_S, STALL_S, Answer, HttpCalls, segment
from overmind_agent.over_http.pause import Pause
from overmind_agent.over_http.refusals import Verb, read_retry_after, refusal
from overmind_agent.testing import VirtualClock

BASE = "https://plane.example"
BLOB = "https://blobs.example/1?signature=x"
ON_AGENT = Verb("next_job", 5)
ON_JOB = Verb("report", 5, is_on_job=True)
TO_BLOB = Verb("upload", 5, accepts=frozenset({200, 201, 202, 204}))
FROM_BLOB = Verb("download", 5, max_bytes=1000)

T, R, A, L = TransientError, RejectedError, AuthError, ClaimLost
# The status of an answer; what it means of the agent itself, of a job, of a blob. None: it went well.
STATUSES: dict[int, tuple[type[Exception] | None, ...]] = {
    200: (None, None, None),
    201: (None, None, None),
    202: (T, T, None),
    203: (T, T, T),
    204: (T, T, None),
    205: (T, T, T),
    206: (T, T, T),
    207: (T, T, T),
    226: (T, T, T),
    300: (T, T, T),
    301: (T, T, T),
    302: (T, T, T),
    303: (T, T, T),
    304: (T, T, T),
    305: (T, T, T),
    307: (T, T, T),
    308: (T, T, T),
    400: (R, R, R),
    401: (A, A, T),
    402: (R, R, R),
    403: (A, A, T),
    404: (R, L, R),
    405: (R, R, R),
    406: (R, R, R),
    407: (R, R, R),
    408: (T, T, T),
    409: (R, L, R),
    410: (R, L, R),
    411: (R, R, R),
    412: (R, R, R),
    413: (R, R, R),
    414: (R, R, R),
    415: (R, R, R),
    416: (R, R, R),
    417: (R, R, R),
    418: (R, R, R),
    421: (R, R, R),
    422: (R, L, R),
    423: (R, L, R),
    424: (R, R, R),
    425: (T, T, T),
    426: (R, R, R),
    428: (R, R, R),
    429: (T, T, T),
    431: (R, R, R),
    451: (R, R, R),
    499: (R, R, R),
    500: (T, T, T),
    501: (T, T, T),
    502: (T, T, T),
    503: (T, T, T),
    504: (T, T, T),
    505: (T, T, T),
    507: (T, T, T),
    508: (T, T, T),
    511: (T, T, T),
    520: (T, T, T),
    599: (T, T, T),
}


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mocked:
        yield mocked


@pytest.fixture
def calls() -> Iterator[HttpCalls]:
    with closing(HttpCalls(BASE, lambda: "ovr_secret")) as made:
        yield made


def answer(web: responses.RequestsMock, method: str, url: str, body: Any = b"{}", **more: Any) -> None:
    """What *url* answers; a length is told unless `length` says otherwise."""
    if more.get("status") in (204, 304):  # these have none
        body = b""
    settings = {"status": 200, "content_type": "application/json", "auto_calculate_content_length": True, **more}
    web.add(method, url, body=body, **settings)


def outcome(what: Any) -> tuple[type[Exception] | None, int | None]:
    """The class of the error and the status that it names; None for an answer."""
    try:
        what()
    except ControlPlaneError as error:
        return type(error), error.http_status
    return None, None


# ------------------------------------------------------------------------------------ statuses


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", [0, 1], ids=["agent", "job"])
def test_a_status_means_this_to_a_call(
    web: responses.RequestsMock, calls: HttpCalls, status: int, kind: int
) -> None:
    answer(web, "PUT", f"{BASE}/x", status=status)

    found, named = outcome(lambda: calls.call((ON_AGENT, ON_JOB)[kind], "PUT", "/x"))

    assert STATUSES[status][kind] is found
    assert (None if found is None else status) == named


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_means_this_to_an_upload(web: responses.RequestsMock, calls: HttpCalls, status: int) -> None:
    """A temporary URL that is not accepted any more says nothing about our token."""
    answer(web, "PUT", BLOB, status=status, content_type="text/plain")

    found, named = outcome(lambda: calls.put_blob(TO_BLOB, BLOB, b"x"))

    assert STATUSES[status][2] is found
    assert (None if found is None else status) == named


@pytest.mark.parametrize("status", [status for status in STATUSES if status not in (202, 204)])
def test_a_status_means_this_to_a_download(web: responses.RequestsMock, calls: HttpCalls, status: int) -> None:
    answer(web, "GET", BLOB, status=status, content_type="application/octet-stream")

    found, named = outcome(lambda: calls.get_blob(FROM_BLOB, BLOB, lambda _: None, 2))

    assert STATUSES[status][2] is found
    assert (None if found is None else status) == named


def test_no_content_needs_no_length(web: responses.RequestsMock, calls: HttpCalls) -> None:
    """RFC 9110: a server must not send Content-Length with a 204. Object stores answer a PUT so."""
    web.add("PUT", BLOB, status=204, content_type="text/plain")

    calls.put_blob(TO_BLOB, BLOB, b"x")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["http://plane.example/y", "https://elsewhere.example/", f"{BASE}/x"])
def test_a_redirect_is_not_followed(web: responses.RequestsMock, calls: HttpCalls, status: int, where: str) -> None:
    """The token would go with it."""
    answer(web, "GET", f"{BASE}/x", status=status, headers={"Location": where})

    with pytest.raises(TransientError):
        calls.call(ON_AGENT, "GET", "/x")

    assert 1 == len(web.calls)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectTimeout("timed out"),
        requests.exceptions.ReadTimeout("timed out"),
        requests.exceptions.SSLError("certificate has expired"),
        requests.exceptions.ProxyError("no proxy"),
        requests.exceptions.ConnectionError("reset"),
        requests.exceptions.ChunkedEncodingError("cut"),
        requests.exceptions.ContentDecodingError("not gzip"),
        requests.exceptions.InvalidHeader("two lengths"),
        requests.exceptions.InvalidURL("no host"),
        requests.exceptions.RequestException("?"),
        OSError("unreachable"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_breaks_on_the_way_may_be_tried_again(
    web: responses.RequestsMock, calls: HttpCalls, error: Exception
) -> None:
    web.add("GET", f"{BASE}/x", body=error)

    with pytest.raises(TransientError, match=f"next_job: .*{error}"):
        calls.call(ON_AGENT, "GET", "/x")


# ------------------------------------------------------------------------------------ headers


def test_what_is_sent_to_the_control_plane(web: responses.RequestsMock, calls: HttpCalls) -> None:
    answer(web, "PUT", f"{BASE}/x")

    calls.call(ON_AGENT, "PUT", "/x", query={"a": "1 2"}, body={"b": 1}, headers={"Overmind-Attempt": "2"})

    sent = web.calls[0].request
    assert f"{BASE}/x?a=1+2" == sent.url
    assert b'{"b": 1}' == sent.body
    assert "Bearer ovr_secret" == sent.headers["Authorization"]
    assert f"overmind-agent/{__version__}" == sent.headers["User-Agent"]
    assert "identity" == sent.headers["Accept-Encoding"]
    assert "application/json" == sent.headers["Accept"]
    assert "application/json" == sent.headers["Content-Type"]
    assert "2" == sent.headers["Overmind-Attempt"]


def test_the_token_is_asked_for_at_every_call(web: responses.RequestsMock) -> None:
    tokens = iter(["old", "new"])
    answer(web, "GET", f"{BASE}/x")

    with closing(HttpCalls(BASE, lambda: next(tokens))) as calls:
        calls.call(ON_AGENT, "GET", "/x")
        calls.call(ON_AGENT, "GET", "/x")

    assert ["Bearer old", "Bearer new"] == [call.request.headers["Authorization"] for call in web.calls]


def test_a_temporary_url_never_sees_the_token(web: responses.RequestsMock, calls: HttpCalls) -> None:
    answer(web, "PUT", BLOB, content_type="text/plain")
    answer(web, "GET", BLOB, body=b"content", content_type="application/octet-stream")
    answer(web, "GET", f"{BASE}/x")

    calls.call(ON_AGENT, "GET", "/x")
    calls.put_blob(TO_BLOB, BLOB, b"x")
    calls.get_blob(FROM_BLOB, BLOB, lambda _: None, 7)

    for call in list(web.calls)[1:]:
        assert "Authorization" not in call.request.headers
        assert "ovr_secret" not in str(call.request.headers) + str(call.request.url)


def test_each_call_says_how_long_its_thread_may_wait_and_when_it_does_not_any_more(
    web: responses.RequestsMock,
) -> None:
    """Of a transfer the first byte has all of its time; then each piece has the time in which one must move."""
    answer(web, "GET", f"{BASE}/x")
    answer(web, "GET", f"{BASE}/away", status=503)
    answer(web, "PUT", BLOB, content_type="text/plain")
    answer(web, "GET", BLOB, body=b"content", content_type="application/octet-stream")
    waits: list[float] = []
    stall_s = min(STALL_S, TO_BLOB.total_s, FROM_BLOB.total_s)
    body = b"x" * MIN_BYTES_PER_S

    with closing(HttpCalls(BASE, lambda: "t", on_wait=waits.append)) as calls:
        calls.call(ON_AGENT, "GET", "/x", extra_s=20)
        with pytest.raises(TransientError):
            calls.call(ON_AGENT, "GET", "/away")
        calls.put_blob(TO_BLOB, BLOB, body)
        calls.get_blob(FROM_BLOB, BLOB, lambda _: None, MIN_BYTES_PER_S)

    called, away, sent, got = (list(waited) for waited in split(waits))
    assert [ON_AGENT.total_s + 20] == called
    assert [ON_AGENT.total_s] == away
    assert TO_BLOB.total_s + 1 == sent[0]
    assert {stall_s} == set(sent[1:]) | set(got[1:])
    assert FROM_BLOB.total_s + 1 == got[0]


def split(waits: Sequence[float]) -> Iterator[list[float]]:
    """What was told before each end of a wait."""
    told: list[float] = []
    for seconds in waits:
        if seconds:
            told.append(seconds)
        else:
            yield told
            told = []
    assert [] == told


def test_the_environment_has_no_say(
    web: responses.RequestsMock, calls: HttpCalls, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A .netrc would replace the token, and a proxy of the environment would see it."""
    (tmp_path / ".netrc").write_text("machine plane.example login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    answer(web, "GET", f"{BASE}/x")

    calls.call(ON_AGENT, "GET", "/x")

    assert "Bearer ovr_secret" == web.calls[0].request.headers["Authorization"]
    settings = web.calls[0].request.req_kwargs  # type: ignore[attr-defined]
    assert {} == dict(settings["proxies"])
    assert settings["verify"] is True


# ------------------------------------------------------------------------------------ the answer


def test_an_answer_carries_its_status_its_body_and_its_date(web: responses.RequestsMock, calls: HttpCalls) -> None:
    answer(web, "GET", f"{BASE}/x", b'{"a": 1}', headers={"Date": "Wed, 04 Mar 2026 05:06:07 GMT"})

    found = calls.call(ON_AGENT, "GET", "/x")

    assert Answer(200, b'{"a": 1}', datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)) == found


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Wed, 04 Mar 2026 05:06:07 -0000", "Wed, 04 Mar 2026 05:06:07 +9999999999999"]
)
def test_a_date_that_is_none_is_no_date(web: responses.RequestsMock, calls: HttpCalls, date: str) -> None:
    answer(web, "GET", f"{BASE}/x", headers={"Date": date})

    assert calls.call(ON_AGENT, "GET", "/x").date is None


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "application/problem+json"]
)
def test_json_goes_by_several_names(web: responses.RequestsMock, calls: HttpCalls, kind: str) -> None:
    answer(web, "GET", f"{BASE}/x", content_type=kind)

    assert b"{}" == calls.call(ON_AGENT, "GET", "/x").body


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream", "text/json", ""])
def test_an_answer_that_is_not_json_is_someone_elses(
    web: responses.RequestsMock, calls: HttpCalls, kind: str
) -> None:
    answer(web, "GET", f"{BASE}/x", b"<html>sign in</html>", content_type=kind)

    with pytest.raises(TransientError, match="not JSON; is there a proxy or a login page in between"):
        calls.call(ON_AGENT, "GET", "/x")


@pytest.mark.parametrize(
    "length", [None, "banana", "-1", "5, 5", "\u0665", "", "0x5"], ids=["none", *map(repr, range(6))]
)
def test_an_answer_whose_end_nobody_can_tell_is_not_taken(
    web: responses.RequestsMock, calls: HttpCalls, length: str | None
) -> None:
    """A cut connection would pass for a short answer."""
    headers = {} if length is None else {"Content-Length": length}
    answer(web, "GET", f"{BASE}/x", headers=headers, auto_calculate_content_length=False)

    with pytest.raises(TransientError, match="unknown length"):
        calls.call(ON_AGENT, "GET", "/x")


@pytest.mark.parametrize(
    "length", [str(5 * 1024 * 1024), "10000000000", "9" * 5000], ids=["5 MiB", "10 GB", "absurd"]
)
def test_an_answer_that_says_it_is_too_long_is_not_read(
    web: responses.RequestsMock, calls: HttpCalls, length: str
) -> None:
    answer(web, "GET", f"{BASE}/x", headers={"Content-Length": length}, auto_calculate_content_length=False)

    with pytest.raises(TransientError, match="more than 4194304 bytes"):
        calls.call(ON_AGENT, "GET", "/x")


def test_an_answer_that_is_too_long_is_not_read_to_its_end(web: responses.RequestsMock, calls: HttpCalls) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    answer(web, "GET", f"{BASE}/x", b"x" * 2000, headers=headers, auto_calculate_content_length=False)

    with pytest.raises(TransientError, match="more than 1000 bytes"):
        calls.call(Verb("short", 5, max_bytes=1000), "GET", "/x")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"detail": "the job is taken", "code": "claim_taken"}', "report: 409: the job is taken"),
        (b'{"detail": [{"loc": ["body", "a"], "msg": "required", "type": "missing"}]}', "report: 409: required"),
        (b'{"detail": [{"msg": "one"}, {"msg": "two"}, "three"]}', "report: 409: one; two; three"),
        (b'{"message": "not found"}', "report: 409: not found"),
        (b'{"error": "denied"}', "report: 409: denied"),
        (b'{"error": {"message": "quota", "code": 5}}', "report: 409: quota"),
        (b'{"detail": null, "message": "plan b"}', "report: 409: plan b"),
        (b'{"detail": {"deep": 1}}', "report: 409"),
        (b'{"detail": "two\\nlines\\u001b[31m"}', "report: 409: two lines [31m"),
        (b'["first", "second"]', "report: 409: first; second"),
        (b'"plain"', "report: 409: plain"),
        (b"null", "report: 409"),
        (b"17", "report: 409"),
        (b"{}", "report: 409"),
        (b"", "report: 409"),
        (b"<html><h1>Conflict</h1></html>", "report: 409"),
        (b'{"detail": "\xff"}', "report: 409"),
        (b'{"detail": NaN}', "report: 409"),
    ],
)
def test_what_a_refusal_says_is_told_in_one_line(body: bytes, said: str) -> None:
    assert said == str(refusal(ON_JOB, 409, {}, body))


def test_a_long_refusal_is_cut() -> None:
    error = refusal(ON_JOB, 409, {}, b'{"detail": "' + b"x" * 5000 + b'"}')

    assert "report: 409: " + "x" * 300 == str(error)


def test_the_facts_of_a_refusal_are_for_programs() -> None:
    error = refusal(ON_JOB, 409, {}, b'{"detail": "x", "code": "wrong_offset", "offset": 12}')

    assert isinstance(error, ClaimLost)
    assert {"detail": "x", "code": "wrong_offset", "offset": 12} == error.facts


# ------------------------------------------------------------------------------------ Retry-After

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("5", 5.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("-5", None),
        ("abc", None),
        ("", None),
        ("NaN", None),
        ("inf", None),
        ("-inf", None),
        ("1e999", None),
        ("9" * 5000, None),
        ("1000000000000", 1e12),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Fri, 01 Jan 2099 00:00:00 GMT", (datetime(2099, 1, 1, tzinfo=UTC) - NOW).total_seconds()),
        ("Wed, 04 Mar 2026 05:06:07 -0000", None),
        ("Wed, 04 Mar 2026 05:06:07 +9999999999999", None),
        ("Wed, 04 Mar 99999 05:06:07 GMT", None),
        ("Wed, 99 Mar 2026 05:06:07 GMT", None),
    ],
)
def test_a_server_may_ask_for_patience_in_seconds_or_by_a_date(value: str | None, seconds: float | None) -> None:
    assert seconds == read_retry_after(value, now=NOW)


@given(value=st.text(max_size=60))
def test_no_value_of_retry_after_hurts(value: str) -> None:
    found = read_retry_after(value, now=NOW)

    assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_listened_to(status: int) -> None:
    error = refusal(ON_AGENT, status, {"Retry-After": "7"}, b"")

    assert isinstance(error, TransientError)
    assert 7.0 == error.retry_after_s


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("a/b", "a%2Fb"),
        ("..", ".."),
        ("a?b#c", "a%3Fb%23c"),
        ("a b", "a%20b"),
        ("@x:y", "%40x%3Ay"),
        ("ü", "%C3%BC"),
    ],
)
def test_a_value_becomes_one_segment_of_a_path(value: str, quoted: str) -> None:
    assert quoted == segment(value)


# ------------------------------------------------------------------------------------ blobs


def test_an_empty_blob_is_sent_with_its_length(web: responses.RequestsMock, calls: HttpCalls) -> None:
    answer(web, "PUT", BLOB, content_type="text/plain")

    calls.put_blob(TO_BLOB, BLOB, b"")

    assert "0" == web.calls[0].request.headers["Content-Length"]
    assert "application/octet-stream" == web.calls[0].request.headers["Content-Type"]


@pytest.mark.parametrize(("size_bytes", "most"), [(10, 10), (None, 1000)])
def test_a_blob_longer_than_it_was_said_to_be_is_refused(
    web: responses.RequestsMock, calls: HttpCalls, size_bytes: int | None, most: int
) -> None:
    answer(web, "GET", BLOB, body=b"x" * 1001, content_type="application/octet-stream")
    got = bytearray()

    with pytest.raises(RejectedError, match=f"more than {most} bytes"):
        calls.get_blob(FROM_BLOB, BLOB, got.extend, size_bytes)

    assert len(got) <= most


# ------------------------------------------------------------------------------------ patience


def test_what_one_connection_is_asked_for_all_keep(web: responses.RequestsMock) -> None:
    """Those that share a pause; a heartbeat has one of its own."""
    clock = VirtualClock()
    shared = Pause(clock)
    answer(web, "GET", f"{BASE}/x", status=429, headers={"Retry-After": "60"})
    with (
        closing(HttpCalls(BASE, lambda: "t", pause=shared)) as one,
        closing(HttpCalls(BASE, lambda: "t", pause=shared)) as other,
        closing(HttpCalls(BASE, lambda: "t", pause=Pause(clock))) as heartbeat,
    ):
        errors = [outcome(lambda each=each: each.call(Verb("x", 5), "GET", "/x"))[0] for each in (one, other)]
        quiet = len(web.calls)
        outcome(lambda: heartbeat.call(Verb("x", 5), "GET", "/x"))

    assert [TransientError, TransientError] == errors
    assert (1, 2) == (quiet, len(web.calls))
