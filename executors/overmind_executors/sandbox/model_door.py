"""
A server for one run of a program, on a socket that only this program reaches: HTTP in the form of OpenAI's API.

Whoever calls is not trusted: few connections at a time, one request for each, of limited size. What a request comes
to is somebody else's: see `program_models`.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from overmind_executors import strict_json

_MOST_AT_ONCE: Final = 16
_MOST_REQUEST_BYTES: Final = 8 << 20
_MOST_THROWN_AWAY_BYTES: Final = 64 << 20
_MOST_DIGITS: Final = 13
_CHUNK_BYTES: Final = 64 << 10
_SILENCE_S: Final = 10.0
_PREFIX: Final = "/v1"


@dataclass(frozen=True)
class Said:
    """An answer: a JSON object, or several as a stream of events. Only what no retry mends is marked so."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] | None = None


def failed(status: int, code: str, message: str) -> Said:
    """An error as such clients know them."""
    kind = "invalid_request_error" if status < 429 else "api_error"
    return Said(status, {"error": {"message": message, "type": kind, "code": code, "param": None}})


class ModelDoor:
    """
    Open from `serve` to `close`.

    Args:
        complete: what the body of a chat completion comes to; called on any thread.
        models: their names, as the program is to call them.

    Attributes:
        key: what the program has to show, though nobody else should reach the socket.
    """

    def __init__(self, complete: Callable[[dict[str, Any]], Said], models: tuple[str, ...]) -> None:
        self.key = secrets.token_urlsafe(24)
        self._complete = complete
        self._models = models
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._reading: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._is_closed = False

    def serve(self, listener: socket.socket) -> None:
        """Answer on *listener* until `close`, which takes it; returns when it is closed."""
        with self._lock:
            if self._is_closed:
                listener.close()
                return
            self._listener = listener
        while True:
            self._room.acquire()
            try:
                connection, _ = listener.accept()
            except OSError:
                self._room.release()
                return
            thread = threading.Thread(target=self._answer, args=(connection,), name="row-model", daemon=True)
            with self._lock:
                if self._is_closed:
                    connection.close()
                    return
                self._reading.add(connection)
                self._threads = [*(t for t in self._threads if t.is_alive()), thread]
                thread.start()

    def close(self) -> None:
        """Take no further request, and wait for the calls under way: they are paid for."""
        with self._lock:
            self._is_closed = True
            for each in (self._listener, *self._reading):
                if each is not None:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        if self._listener is not None:
            self._listener.close()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(_SILENCE_S)
            with suppress(OSError):
                _Exchange(connection, self)
        finally:
            self.done_reading(connection)
            connection.close()
            self._room.release()

    def done_reading(self, connection: socket.socket) -> None:
        """From now on its end is worth waiting for."""
        with self._lock:
            self._reading.discard(connection)

    def said_to(self, method: str, path: str, key: str, raw: bytes) -> Said:
        """What a whole request comes to."""
        if not hmac.compare_digest(key.encode(), f"Bearer {self.key}".encode()):
            return failed(401, "invalid_api_key", "use the key of OPENAI_API_KEY")
        if (method, path) == ("GET", f"{_PREFIX}/models"):
            lines = [{"id": name, "object": "model", "created": 0, "owned_by": "host"} for name in self._models]
            return Said(200, {"object": "list", "data": lines})
        if (method, path) != ("POST", f"{_PREFIX}/chat/completions"):
            return failed(404, "not_found", f"there are {_PREFIX}/models and {_PREFIX}/chat/completions")
        try:
            body = strict_json.loads(raw)
        except strict_json.NotJson as error:
            return failed(400, "invalid_json", f"the request is not JSON: {error}")
        if not isinstance(body, dict):
            return failed(400, "invalid_json", "the request is not a JSON object")
        return self._complete(body)


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer; the connection is closed after it."""

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, door: ModelDoor) -> None:
        self._door = door
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # there is no server

    def do_GET(self) -> None:
        self._go()

    def do_POST(self) -> None:
        self._go()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: what a program sends is no business of the log's."""

    def _go(self) -> None:
        digits = self.headers.get("Content-Length", "0")
        size = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < _MOST_DIGITS else -1
        if "Transfer-Encoding" in self.headers or not 0 <= size <= _MOST_REQUEST_BYTES:
            self._throw_away(min(size, _MOST_THROWN_AWAY_BYTES))
            self._say(failed(413, "request_too_large", f"a request has at most {_MOST_REQUEST_BYTES} bytes"))
            return
        raw = self.rfile.read(size)
        if len(raw) < size:
            return
        self._door.done_reading(self.connection)
        self._say(self._door.said_to(self.command, self.path, self.headers.get("Authorization", ""), raw))

    def _throw_away(self, left: int) -> None:
        """Who is still sending would not hear the answer."""
        while left > 0 and (chunk := self.rfile.read1(min(left, _CHUNK_BYTES))):
            left -= len(chunk)

    def _say(self, said: Said) -> None:
        self.close_connection = True
        if said.events is None:
            kind, content = "application/json", json.dumps(said.body).encode()
        else:
            lines = [*(json.dumps(event) for event in said.events), "[DONE]"]
            kind, content = "text/event-stream", "".join(f"data: {line}\n\n" for line in lines).encode()
        self.send_response(said.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        if said.status != 200:
            self.send_header("x-should-retry", "false")  # what a retry could mend was tried again already
        self.end_headers()
        self.wfile.write(content)
