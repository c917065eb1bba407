"""What no call may exceed, checked before it is read: the sizes of what stands before the body, and the rate."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from overmind_controlplane.answering import error_bodies
from overmind_controlplane.record import audit
from overmind_controlplane.refusals import Refused

MAX_URL_BYTES: Final = 8 << 10
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32 << 10
MAX_TOKENS_KNOWN: Final = 10_000
BURST_S: Final = 2.0
"""A caller that was quiet may send the calls of so many seconds at once."""

_FREE: Final = ("/health", "/blobs/")
"""Paths that cost a caller nothing: they need no token."""


class TooManyHeaders(Refused):
    """The headers are more, or longer, than any client of ours sends."""

    http_status = 431


class UrlTooLong(Refused):
    """The path and the query are longer than any that we give out."""

    http_status = 414


class TooFast(Refused):
    """The token has used up its calls; the answer says when the next one is granted."""

    http_status = 429


class Buckets:
    """
    A token bucket for each caller: it fills at *rate_per_s* and holds two seconds' worth.

    Of callers only a digest of what they sent is kept, of the 10,000 latest. Not safe between threads: one event
    loop asks. Each server process counts for itself.
    """

    def __init__(self, rate_per_s: float, clock: Callable[[], float]) -> None:
        self._rate_per_s = rate_per_s
        self._most = max(1.0, rate_per_s * BURST_S)
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> float:
        """Seconds until *who* may call again, 0 if it may now, which uses up one call."""
        key, now = hashlib.sha256(who.encode()).digest()[:16], self._clock()
        left, then = self._kept.pop(key, (self._most, now))
        left = min(self._most, left + (now - then) * self._rate_per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._rate_per_s
        self._kept[key] = (left - 1 if not wait_s else left, now)
        if len(self._kept) > MAX_TOKENS_KNOWN:
            self._kept.popitem(last=False)
        return wait_s


class Limits:
    """
    Refuses calls that are too large in front, name a NUL, or come too fast.

    No NUL: PostgreSQL keeps none in a text, and nothing of ours is called so.
    """

    def __init__(self, app: ASGIApp, rate_per_s: float, clock: Callable[[], float]) -> None:
        self._app = app
        self._buckets = Buckets(rate_per_s, clock) if rate_per_s > 0 else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        if (call := audit.present_call()) is not None:
            call.code = refusal.code
        body = error_bodies.body(scope["path"], refusal)
        await JSONResponse(body, refusal.http_status, headers=refusal.headers)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refused | None:
        path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
        if len(path) + len(query) > MAX_URL_BYTES:
            return UrlTooLong(f"path and query are longer than {MAX_URL_BYTES} bytes")
        if "\0" in scope["path"] or b"\0" in query or b"%00" in query:
            return Refused("a path or a query with a NUL names nothing")
        length = sum(len(name) + len(value) for name, value in scope["headers"])
        if len(scope["headers"]) > MAX_HEADERS or length > MAX_HEADER_BYTES:
            return TooManyHeaders(
                f"more than {MAX_HEADERS} headers, or longer than {MAX_HEADER_BYTES} bytes in all"
            )
        return self._too_fast(scope)

    def _too_fast(self, scope: Scope) -> Refused | None:
        if self._buckets is None or scope["path"].startswith(_FREE):
            return None
        headers = Headers(scope=scope)
        client = scope.get("client") or ("",)
        who = headers.get("authorization") or headers.get("x-api-key") or f"address {client[0]}"
        wait_s = self._buckets.take(who)
        if not wait_s:
            return None
        # Whole seconds are what the header has; a client that waits longer than it must does no harm.
        later = {"Retry-After": str(math.ceil(wait_s))}
        return TooFast("too many calls with this token; wait and call again", code="rate_limited", headers=later)
