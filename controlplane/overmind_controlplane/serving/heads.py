"""The head of a call: how long it is waited for, and that it names one host."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 30.0
"""From the first byte of a head to its last; a connection that has said nothing yet has as long."""

_TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 31\r\nconnection: close\r\n\r\nthe head of the call never ends"
)


class HeadInTime(HttpToolsProtocol):
    """
    One connection. uvicorn's own, which waits for ever for the end of a head, and reads of an address with a host
    in it the path alone.

    Attributes:
        head_s: how long a head may take, in seconds.
    """

    head_s: float = HEAD_S
    _limit: asyncio.TimerHandle | None = None
    _has_begun = False

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head from now on."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a head is here."""
        super().on_message_begin()
        self._has_begun = True
        self._begin()

    def on_headers_complete(self) -> None:
        """
        The head is whole.

        Raises:
            ValueError: it names two hosts; the parser's caller answers 400 and hangs up.
        """
        self._end()
        self._has_begun = False
        self._must_name_one_host()
        super().on_headers_complete()

    def _begin(self) -> None:
        if self._limit is None:
            self._limit = self.loop.call_later(self.head_s, self._give_up)

    def _end(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        self._limit = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._begin()  # an earlier call on this connection is still being answered
            return
        if self._has_begun:
            self.transport.write(_TOO_LATE)
        self.transport.close()

    def _must_name_one_host(self) -> None:
        """A proxy before us may have gone by the host of the address, and we by the header."""
        if self.url.startswith(b"/") or self.url == b"*":
            return
        parsed = httptools.parse_url(self.url)
        named = b"%b:%d" % (parsed.host, parsed.port) if parsed.port else parsed.host or b""
        hosts = [value for name, value in self.headers if name == b"host"]
        if any(host.lower() != named.lower() for host in hosts):
            raise ValueError("the address names another host than the header")
