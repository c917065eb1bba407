"""
An HTTP proxy on loopback that spoils what passes through it, as its plan says.

    with FaultProxy(plane.url, Seeded(7, rate=0.1)) as proxy:
        ... let the agent speak to proxy.url ...
        assert proxy.passed  # what came, in order, and what was done to it

It reads requests and answers as a whole, so that a fault falls where it hurts: between the effect of a call and its
answer. The decisions follow from the seed and from how many requests came before; when each one comes does not.
"""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from overmind_agent.testing.faults import FAULTS, HOP, Answer, Exchange, Request, pass_on

UPSTREAM_S: Final = 40.0


Plan = Callable[[Request], str | None]
"""Which of FAULTS a request meets, None for none."""


class Seeded:
    """
    A plan of chance, the same for the same seed.

    Args:
        rate: the part of all requests that meet a fault, from 0 to 1.
        kinds: those of FAULTS that are drawn from.
    """

    def __init__(self, seed: int, *, rate: float, kinds: Sequence[str] = ()) -> None:
        self._seed = seed
        self._rate = rate
        self._kinds = tuple(kinds) or tuple(FAULTS)

    def __call__(self, request: Request) -> str | None:
        """The fault that this request meets."""
        draw = random.Random(f"{self._seed}/{request.number}")  # noqa: S311 - it is to be foreseen
        return draw.choice(self._kinds) if draw.random() < self._rate else None


class Scripted:
    """A plan by hand: `plan.next("Completed", "reset_after")` spoils the next request with that in its path."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def next(self, text: str, *faults: str) -> None:
        """The next requests whose verb and path have *text* in them meet *faults*, one each."""
        with self._lock:
            self._waiting += [(text, fault) for fault in faults]

    def __call__(self, request: Request) -> str | None:
        """The fault that this request meets."""
        with self._lock:
            for text, fault in self._waiting:
                if text in f"{request.verb} {request.path}":
                    self._waiting.remove((text, fault))
                    return fault
        return None


class FaultProxy:
    """
    In front of *upstream*, from the beginning of a `with` block to its end.

    Attributes:
        plan: what happens to whom; may be exchanged while it runs.
        passed: number, verb with path, and fault of every request.
        slow_s: how long a slow thing takes: a delay, a late delivery, a black hole.
    """

    def __init__(self, upstream: str, plan: Plan | None = None, *, slow_s: float = 1.0) -> None:
        self.upstream = urlsplit(upstream)
        self.plan: Plan = plan or (lambda _request: None)
        self.slow_s = slow_s
        self.passed: list[tuple[int, str, str | None]] = []
        self.over = threading.Event()
        self._unauthorized = 0
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.proxy = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def faults(self) -> Counter[str]:
        """How often each fault was met."""
        return Counter(fault for _, _, fault in tuple(self.passed) if fault)

    def decide(
        self, verb: str, path: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> tuple[Request, str | None]:
        """Number the request and ask the plan about it."""
        with self._lock:
            request = Request(len(self.passed) + 1, verb, path, headers, body)
            fault = self.plan(request)
            if fault == "unauthorized":
                self._unauthorized = 3
            if self._unauthorized and fault in (None, "unauthorized"):
                self._unauthorized -= 1
                fault = "unauthorized"
            self.passed.append((request.number, f"{verb} {path}", fault))
        return request, fault

    def forward(self, request: Request, *, only_bytes: int | None = None) -> Answer | None:
        """
        The server's answer, None when there was none.

        Args:
            only_bytes: after so many of the body the connection is cut.
        """
        connection = http.client.HTTPConnection(str(self.upstream.hostname), self.upstream.port, timeout=UPSTREAM_S)
        try:
            connection.putrequest(request.verb, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.endheaders(request.body[:only_bytes])
            if only_bytes is not None:
                return None
            found = connection.getresponse()
            return Answer(found.status, found.getheaders(), found.read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, *_request: Any) -> None:
        """A client that went away is nothing to talk about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def _pass_on(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in HOP]
        request, fault = proxy.decide(self.command, self.path, headers, body)
        exchange = Exchange(self, proxy, request)
        with suppress(OSError):
            (FAULTS[fault] if fault else pass_on)(exchange)
            self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - names of http.server

    def finish(self) -> None:
        """The client may have gone already."""
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
