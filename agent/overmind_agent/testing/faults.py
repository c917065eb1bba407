"""What may happen to a request on its way: each fault does to a client and to a server what its name says."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from overmind_agent.testing.fault_proxy import FaultProxy

HOP: Final = frozenset({"connection", "transfer-encoding", "keep-alive"})
"""Headers of a connection, not of what goes through it."""

# A reset instead of an orderly end: what is on its way to the client is thrown away.
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """What a client asked: `number` counts the requests of the proxy from 1."""

    number: int
    verb: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the server said to it."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class Exchange:
    """One request on its way: what a fault may do with it."""

    def __init__(self, handler: BaseHTTPRequestHandler, proxy: FaultProxy, request: Request) -> None:
        self._handler = handler
        self.proxy = proxy
        self.request = request

    def forward(self, *, only_bytes: int | None = None) -> Answer | None:
        """Let the server have it."""
        return self.proxy.forward(self.request, only_bytes=only_bytes)

    def say(self, answer: Answer | None, *, length: int | None = None, body: bytes | None = None) -> None:
        """
        Let the client have *answer*; without one the connection ends, as the server's did.

        Args:
            length: what is said of the body's length, if not the truth.
            body: what is sent of it, if not all.
        """
        if answer is None:
            self.end()
            return
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Status')}"]
        kept = [(name, value) for name, value in answer.headers if name.lower() not in HOP | {"content-length"}]
        lines += [f"{name}: {value}" for name, value in kept]
        lines += [f"Content-Length: {len(answer.body) if length is None else length}", "", ""]
        self.write("\r\n".join(lines).encode("latin-1"))
        self.write(answer.body if body is None else body)

    def write(self, data: bytes) -> None:
        """Bytes to the client, as they are."""
        self._handler.wfile.write(data)

    def pause(self, seconds: float) -> bool:
        """Let time pass, but not beyond the proxy's end; whether that has come."""
        return self.proxy.over.wait(seconds)

    def end(self) -> None:
        """End the connection in order."""
        self._handler.close_connection = True

    def reset(self) -> None:
        """End the connection with a reset."""
        self.end()
        with suppress(OSError):
            self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._handler.wfile.flush()
            self._handler.connection.close()


def pass_on(exchange: Exchange) -> None:
    """No fault."""
    exchange.say(exchange.forward())


def _reset_before(exchange: Exchange) -> None:
    exchange.reset()


def _reset_after(exchange: Exchange) -> None:
    exchange.forward()
    exchange.reset()


def _truncated(exchange: Exchange) -> None:
    answer = exchange.forward()
    if answer is not None:
        exchange.say(answer, body=answer.body[: len(answer.body) // 2])
    exchange.reset()


def _delayed(exchange: Exchange) -> None:
    exchange.pause(exchange.proxy.slow_s)
    exchange.say(exchange.forward())


def _black_hole(exchange: Exchange) -> None:
    exchange.pause(4 * exchange.proxy.slow_s)
    exchange.reset()


def _duplicated(exchange: Exchange) -> None:
    exchange.forward()
    exchange.say(exchange.forward())


def _thrice(exchange: Exchange) -> None:
    exchange.forward()
    exchange.forward()
    exchange.say(exchange.forward())


def _half_request(exchange: Exchange) -> None:
    exchange.forward(only_bytes=len(exchange.request.body) // 2)
    exchange.reset()


def _dripped(exchange: Exchange) -> None:
    answer = exchange.forward()
    if answer is None:
        exchange.end()
        return
    exchange.say(answer, body=b"")
    pieces = 10
    step = max(1, len(answer.body) // pieces)
    for start in range(0, len(answer.body), step):
        if exchange.pause(exchange.proxy.slow_s / pieces):
            return
        exchange.write(answer.body[start : start + step])


def _delivered_late(exchange: Exchange) -> None:
    """The client is told nothing; what it asked for happens when it does not count on it any more."""

    def deliver() -> None:
        if not exchange.pause(3 * exchange.proxy.slow_s):
            exchange.forward()

    threading.Thread(target=deliver, daemon=True).start()
    exchange.reset()


def _wrong_length(exchange: Exchange) -> None:
    answer = exchange.forward()
    if answer is not None:
        exchange.say(answer, length=len(answer.body) + 7)
    exchange.end()


def _huge(exchange: Exchange) -> None:
    answer = exchange.forward()
    if answer is not None:
        exchange.say(answer, length=1 << 30, body=b"")
        for _ in range(1 << 14):
            exchange.write(b" " * (1 << 16))
    exchange.end()


def _half_a_head(exchange: Exchange) -> None:
    exchange.forward()
    exchange.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/js")
    exchange.reset()


def _instead(status: int, body: str, **headers: str) -> Callable[[Exchange], None]:
    """The server hears it, and the client is told something of our own."""

    def answer(exchange: Exchange) -> None:
        exchange.forward()
        _said(status, body, **headers)(exchange)

    return answer


def _early_hints(exchange: Exchange) -> None:
    exchange.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    exchange.say(exchange.forward())


def _said(status: int, body: str = "{}", **headers: str) -> Callable[[Exchange], None]:
    """An answer of our own; the server hears nothing."""
    told = [
        ("Content-Type", "application/json"),
        *((name.replace("_", "-"), text) for name, text in headers.items()),
    ]
    return lambda exchange: exchange.say(Answer(status, told, body.encode()))


FAULTS: Final = MappingProxyType(
    {
        "reset_before": _reset_before,
        "reset_after": _reset_after,
        "truncated": _truncated,
        "delayed": _delayed,
        "black_hole": _black_hole,
        "unavailable": _said(503, Retry_After="1"),
        "bad_gateway": _said(502, "<h1>Bad Gateway</h1>"),
        "too_many": _said(429, Retry_After="1"),
        "unauthorized": _said(401, '{"detail": "not now"}'),
        "captive_portal": _said(200, "<html><body>please log in</body></html>"),
        "redirected": _said(307, Location="http://127.0.0.1:9/elsewhere"),
        "duplicated": _duplicated,
        "thrice": _thrice,
        "half_request": _half_request,
        "dripped": _dripped,
        "delivered_late": _delivered_late,
        "wrong_length": _wrong_length,
        "huge": _huge,
        "early_hints": _early_hints,
        "half_a_head": _half_a_head,
        "internal_error": _instead(500, '{"detail": "it broke"}'),
        "gateway_timeout": _instead(504, "<h1>Gateway Timeout</h1>"),
        "empty": _instead(200, ""),
        "no_json": _instead(200, '{"detail": '),
        "bad_gzip": _instead(200, "this is not gzip", Content_Encoding="gzip"),
    }
)
"""Everything that may happen to a request; `unauthorized` is a burst of three."""
