"""
One POST with a *total* deadline and a capped answer.

The time-outs of urllib3 are per read: a server that sends a byte now and then, even within its headers, holds a
caller for ever. So every new socket is duplicated, and at the deadline a watchdog shuts the duplicate down, which
ends the call wherever it is; it works through TLS, since the two descriptors are one connection. To connect, the
addresses of a name share the time that is left. Only name resolution is outside of all this: that keeps to the
limits of the system's resolver.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from overmind_executors.trace_context import HEADER

CONNECT_TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 8 << 20
_CHUNK_BYTES: Final = 64 << 10
# The call may open its socket just after the alarm, so it rings on until the call has ended.
_RING_AGAIN_S: Final = 0.05


@dataclass(frozen=True)
class Reply:
    """
    An answer, whole.

    Attributes:
        latency_s: from the first byte sent to the last byte read.
        arrivals: how many bytes of the body were there after how many seconds, for each piece that came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_s: float
    arrivals: tuple[tuple[int, float], ...] = ()


class CallFailed(Exception):
    """No whole answer came. The message names what happened, never a header or a body."""


class DeadlinePassed(CallFailed):
    """The call took longer than it may."""


class AnswerTooLarge(CallFailed):
    """The answer is larger than any that we want."""


class Alarm:
    """One running call: what ends it, when, and whether that has happened."""

    def __init__(self, at: float, cut: Callable[[], None]) -> None:
        self.at = at
        self.cut = cut
        self.has_rung = False


class Watchdog:
    """One thread that ends calls at their deadlines. It runs only while there are calls."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._idle = threading.Condition(lock)
        self._alarms: set[Alarm] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    @contextlib.contextmanager
    def limit(self, seconds: float, cut: Callable[[], None]) -> Iterator[Alarm]:
        """Call *cut* if the block takes more than *seconds* seconds, or when `cut_after` has lost its patience."""
        alarm = Alarm(time.monotonic() + seconds, cut)
        with self._changed:
            self._alarms.add(alarm)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
            elif alarm.at < self._wakes_at:
                self._changed.notify()
        try:
            yield alarm
        finally:
            with self._changed:
                self._alarms.discard(alarm)
                if not self._alarms:
                    self._idle.notify_all()

    def cut_after(self, seconds: float) -> None:
        """Wait at most *seconds* seconds for the running calls, then end them."""
        with self._changed:
            self._idle.wait_for(lambda: not self._alarms, seconds)
            self._ring(list(self._alarms))
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._alarms:
                now = time.monotonic()
                self._ring([alarm for alarm in self._alarms if alarm.at <= now])
                self._wakes_at = min(alarm.at for alarm in self._alarms)
                self._changed.wait(self._wakes_at - now)
            self._thread = None

    def _ring(self, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            alarm.has_rung = True
            alarm.cut()
            alarm.at = time.monotonic() + _RING_AGAIN_S


class _Sockets:
    """
    Duplicates of the sockets of one session.

    Attributes:
        ends_at_s: when the present call has to be over.
    """

    def __init__(self) -> None:
        self.ends_at_s = math.inf
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    @property
    def left_s(self) -> float:
        """How many seconds the present call has left."""
        return max(0.0, self.ends_at_s - time.monotonic())

    def add(self, made: socket.socket) -> socket.socket:
        twin = made.dup()
        with self._lock:
            self._open.add(twin)
        return twin

    def drop(self, twin: socket.socket | None) -> None:
        if twin is not None:
            with self._lock:
                self._open.discard(twin)
            twin.close()

    def cut(self) -> None:
        with self._lock:
            for twin in self._open:
                with contextlib.suppress(OSError):
                    twin.shutdown(socket.SHUT_RDWR)


class _Connections:
    """
    Those of one thread. Nothing is retried, no redirect is followed, no cookie is kept, and the environment is not
    asked for proxies and passwords. The pools are asked without requests, whose way to them took a seventh of the
    processor time of a row.
    """

    def __init__(self, proxy: str, ca_file: str) -> None:
        self.sockets = _Sockets()
        self._manager = _manager(proxy, ca_file)

        class Plain(HTTPConnectionPool):
            ConnectionCls = _watched(HTTPConnection, self.sockets)

        class Secure(HTTPSConnectionPool):
            ConnectionCls = _watched(HTTPSConnection, self.sockets)

        self._manager.pool_classes_by_scheme = {"http": Plain, "https": Secure}

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> BaseHTTPResponse:
        """The answer's head; its body is still to be read."""
        self.sockets.ends_at_s = time.monotonic() + timeout_s
        return self._manager.urlopen(
            "POST",
            url,
            body=body,
            headers=headers,
            timeout=Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
            retries=False,
            redirect=False,
            preload_content=False,
        )


def _manager(proxy: str, ca_file: str) -> PoolManager:
    how: dict[str, Any] = {
        "num_pools": 2,
        "maxsize": 1,
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": ca_file or DEFAULT_CA_BUNDLE_PATH,
    }
    if not proxy:
        return PoolManager(**how)
    parts = urlsplit(proxy)
    who = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return ProxyManager(proxy, proxy_headers=make_headers(proxy_basic_auth=who), **how)


def _watched(base: Any, sockets: _Sockets) -> Any:
    """A class of connections whose sockets *sockets* knows."""

    class Watched(base):  # type: ignore[misc]  # the base is a value here
        _twin: socket.socket | None = None
        # urllib3's own: what it connects to, apart from the name that a certificate is checked against; its limit.
        _dns_host: Any
        timeout: Any

        def _new_conn(self) -> socket.socket:
            """To the first address that takes it; urllib3 would give each of them all of the time."""
            name, limit_s = self._dns_host, self.timeout
            *others, last = _addresses(name, self.port)
            try:
                for self._dns_host in others:
                    self.timeout = min(limit_s, sockets.left_s)
                    with contextlib.suppress(NewConnectionError, ConnectTimeoutError):
                        return self._shown(super()._new_conn())
                self._dns_host, self.timeout = last, min(limit_s, sockets.left_s)
                return self._shown(super()._new_conn())
            finally:
                self._dns_host, self.timeout = name, limit_s

        def _shown(self, made: socket.socket) -> socket.socket:
            self._twin = sockets.add(made)
            return made

        def close(self) -> None:
            super().close()
            twin, self._twin = self._twin, None
            sockets.drop(twin)

    return Watched


def _addresses(name: str, port: int) -> list[str]:
    """Of a host, in the resolver's order; at least one. Raises OSError when there is none."""
    found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(line[4][0]) for line in found))


class TimedHttp:
    """
    Posts from any number of threads, each with connections of its own.

    No proxy, netrc or certificate setting comes from the environment, no redirect is followed, no cookie is kept.

    Args:
        proxy: its URL; empty for a direct connection.
        ca_file: PEM file of the only authorities to trust; empty for those of the system.
    """

    def __init__(self, *, proxy: str = "", ca_file: str = "") -> None:
        self._proxy, self._ca_file = proxy, ca_file
        self._own = threading.local()
        self._watchdog = Watchdog()

    def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_s: float, traceparent: str = ""
    ) -> Reply:
        """
        The answer to *body*, whatever its status.

        Args:
            headers: the same for many calls; *traceparent* is of this call alone, empty for none.

        Raises:
            DeadlinePassed: it did not end within *timeout_s* seconds.
            AnswerTooLarge: it has more than 8 MiB.
            CallFailed: there is no connection, or it broke.
        """
        mine = self._connections()
        sent = {**headers, HEADER: traceparent} if traceparent else headers
        late = DeadlinePassed(f"no whole answer within {timeout_s:g} s")
        with self._watchdog.limit(timeout_s, mine.sockets.cut) as alarm:
            try:
                reply = _exchange(mine, url, body, sent, timeout_s)
            # Errors of the socket come through as they are, and a broken header is a ValueError.
            except (HTTPError, OSError, ValueError) as error:
                if alarm.has_rung or not mine.sockets.left_s or isinstance(error, ReadTimeoutError):
                    raise late from None
                raise CallFailed(_what_happened(error)) from None
        # To http.client an answer that is cut within its headers is a whole one without a body.
        if alarm.has_rung:
            raise late
        return reply

    def cut_after(self, seconds: float) -> None:
        """Give running calls at most *seconds* seconds, then end them as if their deadline had passed."""
        self._watchdog.cut_after(seconds)

    def close(self) -> None:
        """Nothing to give back: each thread's connections go with it."""

    def _connections(self) -> _Connections:
        if not hasattr(self._own, "connections"):
            self._own.connections = _Connections(self._proxy, self._ca_file)
        mine: _Connections = self._own.connections
        return mine


def _exchange(mine: _Connections, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Reply:
    began = time.monotonic()
    answer = mine.post(url, body, headers, timeout_s)
    content, arrivals = bytearray(), list[tuple[int, float]]()
    try:
        for chunk in answer.stream(_CHUNK_BYTES):
            content += chunk
            arrivals.append((len(content), time.monotonic() - began))
            if len(content) > MAX_ANSWER_BYTES:
                raise AnswerTooLarge(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    except BaseException:
        answer.close()  # a connection that has more to say is of no use to the next call
        raise
    return Reply(answer.status, answer.headers, bytes(content), time.monotonic() - began, tuple(arrivals))


def _what_happened(error: BaseException) -> str:
    """The innermost cause by its class, since the texts of these errors quote URLs and headers."""
    seen: list[str] = []
    cause: Any = error
    while isinstance(cause, BaseException) and len(seen) < 8:
        seen.append(type(cause).__name__)
        inner = [arg for arg in cause.args if isinstance(arg, BaseException)]
        cause = getattr(cause, "reason", None) or cause.__cause__ or (inner[0] if inner else None)
    return f"the connection failed ({seen[-1]})"
