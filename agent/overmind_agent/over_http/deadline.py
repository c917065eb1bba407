"""
A total deadline for an HTTP exchange.

`requests` limits the wait for a connection and for each read, so a server that sends one byte a second, in the
headers or in the body, holds a thread for ever. Here each exchange runs under an alarm that shuts its socket down;
the blocked read then ends with an error. A duplicate of the socket is kept from before TLS wraps it, so a
handshake is covered as well, and names are looked up in a thread that is not waited for longer (`name_lookup`).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from overmind_agent.over_http.alarms import Alarms
from overmind_agent.over_http.name_lookup import NameLookups

# No exchange takes longer, whatever size a server declares; and a timer takes no more than some years.
MOST_S: Final = 6 * 3600.0
LOOKUPS: Final = NameLookups()
ALARMS: Final = Alarms("deadline")
_current = threading.local()


class Deadline:
    """
    The sockets of one exchange, and whether its time is up.

    Attributes:
        over: done when it is.
    """

    def __init__(self, total_s: float = MOST_S) -> None:
        self.over: Future[None] = Future()
        self._ends_at_s = time.monotonic() + total_s
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.has_passed = False

    @property
    def left_s(self) -> float:
        """How many seconds are left."""
        return max(0.0, self._ends_at_s - time.monotonic())

    def watch(self, sock: socket.socket) -> None:
        """Shut *sock* down when the time is up, at once if it already is."""
        with self._lock:
            self._sockets.append(sock)
            if self.has_passed:
                _shut_down(sock)

    def pass_(self) -> None:
        """The time is up."""
        with self._lock:
            if not self.has_passed:
                self.has_passed = True
                self.over.set_result(None)
            for sock in self._sockets:
                _shut_down(sock)


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def deadline(total_s: float) -> Iterator[Deadline]:
    """Every exchange of this thread inside the block, through a DeadlineAdapter, ends after *total_s* seconds."""
    total_s = min(total_s, MOST_S)
    watched = Deadline(total_s)
    _current.deadline = watched
    try:
        with ALARMS.after(total_s, watched.pass_):
            yield watched
    finally:
        _current.deadline = None


if TYPE_CHECKING:
    _Connection = HTTPConnection
else:
    _Connection = object  # it comes after the mixin, as HTTPConnection or HTTPSConnection


class _Watched(_Connection):
    """Mixed into a connection: shows its socket to the deadline of the thread that uses it."""

    _spare: socket.socket | None = None
    # urllib3's own: what it connects to, apart from the name that a certificate is checked against; its limit.
    _dns_host: Any
    timeout: Any

    def _new_conn(self) -> socket.socket:
        watched: Deadline | None = getattr(_current, "deadline", None)
        sock = self._connect(watched) if watched is not None else super()._new_conn()
        self._forget_spare()
        self._spare = sock.dup()
        self._show()
        return sock

    def _connect(self, watched: Deadline) -> socket.socket:
        """A connection to the first address of the host that takes one, within the time that is left."""
        name, limit_s = self._dns_host, self.timeout
        try:
            found = LOOKUPS.addresses(name, self.port, within_s=watched.left_s, over=watched.over)
        except OSError as error:
            raise NameResolutionError(name, self, error) from error  # type: ignore[arg-type]  # it is only put into words
        try:
            for address in found[:-1]:
                self._dns_host = address
                self.timeout = min(limit_s, watched.left_s)
                with suppress(NewConnectionError, ConnectTimeoutError):
                    return super()._new_conn()
            self._dns_host = found[-1]
            self.timeout = min(limit_s, watched.left_s)
            return super()._new_conn()
        finally:
            self._dns_host, self.timeout = name, limit_s

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._show()  # a connection that was kept open is not made anew
        super().putrequest(*args, **kwargs)

    def close(self) -> None:
        super().close()
        self._forget_spare()

    def _show(self) -> None:
        watched: Deadline | None = getattr(_current, "deadline", None)
        if watched is not None and self._spare is not None:
            watched.watch(self._spare)

    def _forget_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None


class _HttpConnection(_Watched, HTTPConnection):
    pass


class _HttpsConnection(_Watched, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class DeadlineAdapter(HTTPAdapter):
    """Connections that a `deadline` can end. It never tries again by itself: that is the caller's decision."""

    def __init__(self) -> None:
        super().__init__(max_retries=0, pool_connections=4, pool_maxsize=4)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use our connection classes."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        """Use our connection classes behind a proxy, too."""
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
