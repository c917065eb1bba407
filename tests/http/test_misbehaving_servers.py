"""Servers that drip, hang, lie and cut off, on real sockets: every exchange ends in time, with the right error."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from contextlib import closing
from typing import Any

import pytest
from rude_server import Script, drips, floods, hangs, read_head, reset, rude_server, says

from overmind_agent.errors import RejectedError, TransientError
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.deadline import deadline
from overmind_agent.over_http.refusals import Verb

TOTAL_S = 0.3
# What an exchange may take on top of its deadline.
SLACK_S = 0.5
PROBE = Verb("probe", TOTAL_S, max_bytes=100_000)
UPLOAD = Verb("upload", TOTAL_S, accepts=frozenset({200}))

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ENDLESS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"1000\r\n" + b" " * 0x1000 + b"\r\n"


def bomb(megabytes: int) -> bytes:
    return gzip.compress(b"\0" * (megabytes << 20), compresslevel=9)


def zipped(content: bytes, encoding: bytes = b"gzip") -> bytes:
    return OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(content)) + content


def crashes(connection: socket.socket, _over: threading.Event) -> None:
    read_head(connection)
    reset(connection)


SLOW: dict[str, Script] = {
    "says nothing": says(then=hangs),
    "drips the status line": says(then=drips(b"H")),
    "drips headers": says(OK, then=drips(b"X-More: 1\r\n")),
    "drips the name of a header": says(OK, then=drips(b"X")),
    "drips the body": says(OK + b"Content-Length: 10000\r\n\r\n", then=drips(b" ")),
    "drips chunks": says(ENDLESS, then=drips(b"1\r\n \r\n")),
    "drips the size of a chunk": says(ENDLESS, then=drips(b"0")),
    "stops in the body": says(OK + b"Content-Length: 10000\r\n\r\n{", then=hangs),
    "stops after the head": says(OK + b"Content-Length: 2\r\n\r\n", then=hangs),
    "sends 100 for ever": says(then=drips(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "accepts and hangs": hangs,
}

BROKEN: dict[str, Script] = {
    "closes at once": says(),
    "resets": crashes,
    "cuts the head": says(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "cuts the body": says(OK + b'Content-Length: 1000\r\n\r\n{"a": '),
    "cuts a chunk": says(ENDLESS + b"1000\r\n{"),
    "cuts before the last chunk": says(ENDLESS + b"2\r\n{}\r\n"),
    "has no length": says(OK + b"\r\n{}"),
    "has two lengths": says(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "has a banana for a length": says(OK + b"Content-Length: banana\r\n\r\n{}"),
    "has a negative length": says(OK + b"Content-Length: -5\r\n\r\n{}"),
    "declares 10 GB": says(OK + b"Content-Length: 10000000000\r\n\r\n{}"),
    "declares a length of 5,000 digits": says(OK + b"Content-Length: %b\r\n\r\n{}" % (b"9" * 5000)),
    "floods with chunks": says(ENDLESS, then=floods(CHUNK)),
    "sends a gzip bomb": says(zipped(bomb(50))),
    "redirects with an endless body": says(REDIRECT, then=floods(CHUNK)),
    "sends a gzip bomb in a gzip bomb": says(zipped(gzip.compress(bomb(50)), b"gzip, gzip")),
    "says gzip and sends none": says(zipped(b"this is not gzip")),
    "sends junk": says(b"\x16\x03\x01\x02\x00 hello\r\n\r\n"),
    "sends an endless header": says(OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n"),
    "sends 200 headers": says(OK + b"X: 1\r\n" * 200 + b"Content-Length: 2\r\n\r\n{}"),
    "sends early hints and nothing more": says(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", then=hangs),
    "sends early hints and closes": says(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "switches protocols": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", then=hangs),
}


def ended(what: Any) -> tuple[TransientError, float]:
    """The error in which *what* ends, and how many seconds that took."""
    began = time.monotonic()
    with pytest.raises(TransientError) as caught:
        what()
    return caught.value, time.monotonic() - began


@pytest.mark.parametrize("name", SLOW)
def test_a_call_to_a_server_that_takes_for_ever_ends_in_time(name: str) -> None:
    """`requests` alone waits for ever here: its time-out is for one read, and each read brings something."""
    with rude_server(SLOW[name]) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        error, took_s = ended(lambda: calls.call(PROBE, "GET", "/x"))

    assert str(error).startswith("probe: ")
    assert TOTAL_S <= took_s + 0.05
    assert took_s < TOTAL_S + SLACK_S


@pytest.mark.parametrize("name", BROKEN)
def test_a_call_to_a_server_that_breaks_off_or_lies_is_one_to_try_again(name: str) -> None:
    with rude_server(BROKEN[name]) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        error, took_s = ended(lambda: calls.call(PROBE, "GET", "/x"))

    assert str(error).startswith("probe: ")
    assert took_s < TOTAL_S + SLACK_S


@pytest.mark.parametrize("name", ["floods with chunks", "redirects with an endless body", "sends a gzip bomb"])
def test_of_an_answer_without_end_no_more_is_read_than_the_call_takes(name: str) -> None:
    with rude_server(BROKEN[name]) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        error, _ = ended(lambda: calls.call(Verb("probe", 30, max_bytes=100_000), "GET", "/x"))

    assert "probe: an answer of more than 100000 bytes" == str(error)


def test_a_handshake_that_never_comes_ends_in_time() -> None:
    with rude_server(hangs) as server:
        url = server.url.replace("http:", "https:")
        with closing(HttpCalls(url, lambda: "t")) as calls:
            _, took_s = ended(lambda: calls.call(PROBE, "GET", "/x"))

    assert took_s < TOTAL_S + SLACK_S


def test_a_handshake_that_drips_ends_in_time() -> None:
    with rude_server(drips(b"\x16")) as server:
        url = server.url.replace("http:", "https:")
        with closing(HttpCalls(url, lambda: "t")) as calls:
            _, took_s = ended(lambda: calls.call(PROBE, "GET", "/x"))

    assert took_s < TOTAL_S + SLACK_S


def test_plain_text_where_tls_was_meant_is_never_fallen_back_to() -> None:
    with rude_server(says(OK + b"Content-Length: 2\r\n\r\n{}")) as server:
        url = server.url.replace("http:", "https:")
        with closing(HttpCalls(url, lambda: "t")) as calls:
            error, _ = ended(lambda: calls.call(PROBE, "GET", "/x"))

    assert isinstance(error.__cause__, OSError)
    assert "ssl" in f"{error} {error.__cause__!r}".lower() or isinstance(error.__cause__, ssl.SSLError)


def test_nobody_there_is_an_error_to_try_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with closing(HttpCalls(f"http://127.0.0.1:{port}", lambda: "t")) as calls:
        error, _ = ended(lambda: calls.call(PROBE, "GET", "/x"))

    assert "refused" in str(error)


def test_a_held_call_gets_its_time_on_top() -> None:
    def answers_late(connection: socket.socket, over: threading.Event) -> None:
        over.wait(TOTAL_S + 0.2)
        connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")

    with rude_server(says(then=answers_late)) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        assert b"{}" == calls.call(PROBE, "GET", "/x", extra_s=5).body


def test_a_call_can_be_ended_from_another_thread() -> None:
    asked = threading.Event()

    def tells_and_hangs(connection: socket.socket, over: threading.Event) -> None:
        read_head(connection)
        asked.set()
        over.wait(60)

    with rude_server(tells_and_hangs) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        other = threading.Thread(target=lambda: asked.wait(10) and calls.stop_waiting())
        other.start()
        with calls.giving_way():
            _, took_s = ended(lambda: calls.call(Verb("next_job", 60), "GET", "/x"))
        other.join(10)

    assert took_s < 10


def test_a_call_that_hangs_holds_up_no_other_connection() -> None:
    """A heartbeat has a connection of its own, and goes on beside an upload that stands still."""
    is_hanging = threading.Event()

    def tells_and_hangs(connection: socket.socket, over: threading.Event) -> None:
        read_head(connection)
        is_hanging.set()
        over.wait(60)

    with (
        rude_server(tells_and_hangs) as stuck,
        rude_server(says(OK + b"Content-Length: 2\r\n\r\n{}")) as server,
        closing(HttpCalls(stuck.url, lambda: "t")) as uploading,
        closing(HttpCalls(server.url, lambda: "t")) as beating,
    ):

        def upload() -> None:
            with uploading.giving_way():
                ended(lambda: uploading.put_blob(Verb("upload", 5), stuck.url, b"x"))

        other = threading.Thread(target=upload)
        other.start()
        is_hanging.wait(10)
        began = time.monotonic()
        answer = beating.call(PROBE, "GET", "/x")
        took_s = time.monotonic() - began
        uploading.stop_waiting()
        other.join(10)

    assert b"{}" == answer.body
    assert took_s < TOTAL_S + SLACK_S


def test_a_deadline_does_not_reach_into_the_next_call() -> None:
    """The connection is kept open, and the timer of the first call must not end the second."""
    with (
        rude_server(lambda connection, _over: serve_two(connection)) as server,
        closing(HttpCalls(server.url, lambda: "t")) as calls,
    ):
        first = calls.call(PROBE, "GET", "/x")
        second = calls.call(Verb("probe", 5), "GET", "/x", extra_s=5)

    assert (b"{}", b"{}") == (first.body, second.body)
    assert 1 == server.connections


def serve_two(connection: socket.socket) -> None:
    """Answer at once, and the second time after the first deadline would have passed."""
    read_head(connection)
    connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")
    read_head(connection)
    threading.Event().wait(TOTAL_S + 0.2)
    connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")


# ------------------------------------------------------------------------------------ blobs


def test_an_upload_that_nobody_reads_ends_in_time() -> None:
    content = b"x" * (16 << 20)  # more than the buffers of both ends take
    with rude_server(hangs) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        _, took_s = ended(lambda: calls.put_blob(UPLOAD, server.url + "/b", content))

    assert took_s < TOTAL_S + SLACK_S


def test_an_upload_that_is_read_and_never_answered_ends_in_time() -> None:
    with rude_server(says(then=hangs)) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        error, took_s = ended(lambda: calls.put_blob(UPLOAD, server.url + "/b", b"x"))

    assert str(error).startswith("upload: ")
    assert took_s < TOTAL_S + SLACK_S


@pytest.mark.parametrize("name", ["drips the body", "stops in the body", "stops after the head", "drips headers"])
def test_a_download_that_stalls_ends_in_time(name: str) -> None:
    got = bytearray()
    with rude_server(SLOW[name]) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        error, took_s = ended(lambda: calls.get_blob(PROBE, server.url + "/b", got.extend, 10))

    assert str(error).startswith("probe: ")
    assert took_s < TOTAL_S + SLACK_S


@pytest.mark.parametrize("name", ["cuts the body", "cuts a chunk", "cuts the head", "resets"])
def test_a_download_that_is_cut_is_one_to_try_again(name: str) -> None:
    with rude_server(BROKEN[name]) as server, closing(HttpCalls(server.url, lambda: "t")) as calls:
        error, _ = ended(lambda: calls.get_blob(PROBE, server.url + "/b", lambda _: None, 1000))

    assert str(error).startswith("probe: ")


@pytest.mark.parametrize("name", ["floods with chunks", "sends a gzip bomb"])
def test_a_download_that_does_not_end_is_cut_at_its_size(name: str) -> None:
    got = bytearray()
    with (
        rude_server(BROKEN[name]) as server,
        closing(HttpCalls(server.url, lambda: "t")) as calls,
        pytest.raises(RejectedError, match="more than 5000 bytes"),
    ):
        calls.get_blob(PROBE, server.url + "/b", got.extend, 5000)

    assert len(got) <= 5000


@pytest.mark.parametrize("seconds", [2**62 / 16384, 1e300])
def test_a_deadline_beyond_all_time_is_none_that_breaks_a_thread(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may declare any size; the timer's own thread would end with an error, and the daemon with it."""
    broken: list[object] = []
    monkeypatch.setattr(threading, "excepthook", broken.append)

    with deadline(seconds):
        (timer,) = [thread for thread in threading.enumerate() if thread.name == "deadline"]
        timer.join(0.2)

    assert [] == broken
