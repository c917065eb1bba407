"""
Bytes on the wire that two readers could take for different requests: refused, and the connection closed.

What a proxy before the server takes for the body of one call must never be another call to us.
"""

from __future__ import annotations

import re
import socket

import pytest

from server import ControlPlaneProcess

WAIT_S = 10.0
SECOND = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PLAIN = b"Content-Length: 2\r\n\r\n{}"

# What stands after the head of a POST, and what it is answered with; 400 comes with the end of the connection.
BODIES: dict[str, tuple[bytes, int]] = {
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 47\r\n\r\n{}", 400),
    "a length twice": (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a list of lengths": (b"Content-Length: 2, 2\r\n\r\n{}", 400),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "a length and chunks": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "a space before the colon": (b"Content-Length : 2\r\n\r\n{}", 400),
    "+2": (b"Content-Length: +2\r\n\r\n{}", 400),
    "0_2": (b"Content-Length: 0_2\r\n\r\n{}", 400),
    "-1": (b"Content-Length: -1\r\n\r\n{}", 400),
    "0x2": (b"Content-Length: 0x2\r\n\r\n{}", 400),
    "20 digits": (b"Content-Length: 99999999999999999999\r\n\r\n{}", 400),
    "no length in Content-Length": (b"Content-Length:\r\n\r\n{}", 400),
    "chunks of another kind": (b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "chunks in chunks": (b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "packed chunks": (b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 501),
    "a chunk of 2x bytes": (b"Transfer-Encoding: chunked\r\n\r\n2x\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of +2 bytes": (b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of 0x2 bytes": (b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
    "a bare LF": (b"Content-Length: 2\n\n{}", 400),
    "a bare CR": (b"X: a\rb\r\n" + PLAIN, 400),
    "a NUL": (b"X: a\0b\r\n" + PLAIN, 400),
    "a folded line": (b"X: a\r\n b\r\n" + PLAIN, 400),
    "a header without a name": (b": a\r\n" + PLAIN, 400),
    "another Host": (b"Host: other.example\r\n" + PLAIN, 400),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 422),
    "a length": (PLAIN, 422),
}
HEADS: dict[str, tuple[bytes, int]] = {
    "HTTP/0.9": (b"GET /health\r\n\r\n", 421),
    "HTTP/9.9": (b"GET /health HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a handshake": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    "a verb in small letters": (b"get /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "a space in the path": (b"GET /he alth HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "CONNECT": (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", 421),
    "a Host with a path": (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1/x\r\n\r\n", 421),
    "an address of another host": (b"GET http://other.example/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "an address of another port": (b"GET http://127.0.0.1:1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "an address of a foreign host": (b"GET http://a.example/health HTTP/1.1\r\nHost: a.example\r\n\r\n", 421),
    "an address of this host": (b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 200),
    "a way up": (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "an overlong way up": (b"GET /%c0%ae%c0%ae/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "nothing odd": (SECOND, 200),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_could_be_read_in_two_ways_is_refused(plane: ControlPlaneProcess, name: str) -> None:
    head = b"POST /api/v2/agents HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    token = f"Authorization: Bearer {plane.agent_token}\r\n".encode()
    rest, status = BODIES[name]

    closes = status == 400 and name != "another Host"

    answers = _answers(plane, head + token + rest, closes=closes)

    assert ([status], closes) == answers


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_could_be_read_in_two_ways_is_refused(plane: ControlPlaneProcess, name: str) -> None:
    data, status = HEADS[name]

    (statuses, is_closed) = _answers(plane, data, closes=status == 400)

    assert [status] == statuses
    assert is_closed or status != 400


def test_what_stands_after_a_body_is_the_next_request_and_no_part_of_it(plane: ControlPlaneProcess) -> None:
    token = f"Authorization: Bearer {plane.agent_token}\r\n".encode()
    head = b"POST /api/v2/agents HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    answers = _answers(plane, head + token + PLAIN + SECOND, closes=False, number=2)

    assert ([422, 200], False) == answers


def _answers(plane: ControlPlaneProcess, data: bytes, *, closes: bool, number: int = 1) -> tuple[list[int], bool]:
    """
    The statuses that *data* is answered with, and whether the server closed the connection after them.

    Args:
        closes: whether the end of the connection is waited for; else a moment after *number* answers is enough.
    """
    port = int(plane.url.rpartition(":")[2])
    got, statuses = b"", list[int]()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        while True:
            is_enough = len(statuses) >= number and not closes
            connection.settimeout(0.1 if is_enough else WAIT_S)
            chunk = _read(connection)
            if not chunk:
                return statuses, chunk is not None
            got += chunk
            statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", got)]


def _read(connection: socket.socket) -> bytes | None:
    """More of the answer; empty at the end of the connection, None when nothing comes though it is open."""
    try:
        return connection.recv(65_536)
    except TimeoutError:
        return None
