"""
Answers GET on a TCP port: small, few at a time, each with a deadline, so that nobody who asks can hurt the daemon.

It reads a head of at most 8 KiB and no body, answers once and closes. More connections at a time than it may have
are closed unanswered. A thread that serves one does nothing else, and the daemon waits for none of them.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

MOST_AT_A_TIME: Final = 8
HEAD_BYTES: Final = 8192
ANSWERS: Final = "telemetry-answer"
READ_S: Final = 5.0
WRITE_S: Final = 10.0
# Out of descriptors or of memory: so long until it is tried again.
AGAIN_S: Final = 1.0
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_WORDS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Answer:
    """What a path says."""

    status: int
    body: bytes
    content_type: str = "application/json"


def in_json(status: int, document: Mapping[str, Any]) -> Answer:
    """*document* as an answer."""
    return Answer(status, json.dumps(document).encode() + b"\n")


Headers = Mapping[str, str]
"""By their names in lower case."""


class _Refused(Exception):
    """A request that is answered with a status alone."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Listener:
    """
    A socket and a thread that accepts.

    Args:
        paths: what answers each path, given the headers; called in threads of their own.
        hosts: what the Host header may name, None for anything; guards against pages in a browser on this host.
        read_s, write_s: how long all of a request, and all of its answer, may take.
        on_answer: told the status of each answer.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: tuple[str, int],
        paths: Mapping[str, Callable[[Headers], Answer]],
        *,
        hosts: frozenset[str] | None,
        read_s: float = READ_S,
        write_s: float = WRITE_S,
        on_answer: Callable[[int], object] = lambda _status: None,
    ) -> None:
        self._paths = paths
        self._hosts = hosts
        self._read_s = read_s
        self._write_s = write_s
        self._on_answer = on_answer
        self._free = threading.BoundedSemaphore(MOST_AT_A_TIME)
        self._closing = threading.Event()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=MOST_AT_A_TIME)
        self._thread = threading.Thread(target=self._accept, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Accept nothing more."""
        self._closing.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except ConnectionError:
                continue
            except OSError as error:
                if error.errno in _SHORTAGES and not self._closing.wait(AGAIN_S):
                    continue
                return
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            try:
                threading.Thread(
                    target=self._serve, args=[connection], name="telemetry-answer", daemon=True
                ).start()
            except RuntimeError:  # no more threads
                connection.close()
                self._free.release()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                answer = self._answer(connection)
                self._on_answer(answer.status)
                connection.settimeout(self._write_s)  # of all of sendall
                connection.sendall(_head(answer) + answer.body)
                connection.shutdown(socket.SHUT_WR)
        finally:
            self._free.release()

    def _answer(self, connection: socket.socket) -> Answer:
        try:
            path, headers = _parse(_read_head(connection, self._read_s))
            self._check_host(headers)
            if path not in self._paths:
                raise _Refused(404)
            return self._paths[path](headers)
        except _Refused as refused:
            return in_json(refused.status, {"error": _WORDS[refused.status].lower()})
        except Exception as error:  # whoever asks gets an answer, and the daemon has nothing to do with it
            return in_json(500, {"error": type(error).__name__})

    def _check_host(self, headers: Headers) -> None:
        if self._hosts is None:
            return
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname
        except ValueError:
            name = None
        if name not in self._hosts or "origin" in headers:
            raise _Refused(403)


def _read_head(connection: socket.socket, read_s: float) -> bytes:
    """Up to the empty line, within *read_s* seconds, however it drips."""
    ends_at_s = time.monotonic() + read_s
    found = b""
    while b"\r\n\r\n" not in found:
        if len(found) > HEAD_BYTES:
            raise _Refused(431)
        connection.settimeout(max(0.001, ends_at_s - time.monotonic()))
        try:
            piece = connection.recv(HEAD_BYTES)
        except TimeoutError:
            raise _Refused(408) from None
        if not piece:
            raise _Refused(400)
        found += piece
    return found.partition(b"\r\n\r\n")[0]


def _parse(head: bytes) -> tuple[str, Headers]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(400)
    if words[0] != "GET":
        raise _Refused(405)
    pairs = (line.partition(":") for line in lines)
    return words[1].partition("?")[0], {name.strip().lower(): value.strip() for name, _, value in pairs}


def _head(answer: Answer) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status} {_WORDS[answer.status]}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
