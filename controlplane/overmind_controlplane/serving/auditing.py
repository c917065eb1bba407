"""What every call passes first: the audit knows of it while it is answered, and a refusal leaves a line there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overmind_controlplane import access
from overmind_controlplane.answering.routing import secret_of
from overmind_controlplane.record import audit
from overmind_controlplane.record.batches import Batches
from overmind_controlplane.record.database import Database
from overmind_controlplane.serving.tally import Refusal, Tally
from overmind_executors import trace_context

log = structlog.get_logger(__name__)

MINUTE_S: Final = 60.0
EXPIRY_HEADER: Final = "Overmind-Token-Expires"
"""Tells whoever calls when the token ends, if it does: so that a new one is there in time."""


class Audited:
    """
    Changes write their own lines, with the change (`Database.write`); what is refused changes nothing, so its line
    is written here, once it is answered.

    Refusals of a caller that is known have a line each: the limits say how many there can be. The others, of the
    limits themselves, of a foreign Host and of a token that is not accepted, are counted by the minute.
    """

    def __init__(self, app: ASGIApp, database: Database, minute_s: float = MINUTE_S) -> None:
        self._app = app
        self._database = database
        self._minute_s = minute_s
        self._refusals = Batches(self._write)
        self._tally = Tally()
        self._minute: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_seen(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            if message["type"] == "http.response.start" and call.caller and call.caller.expires_at:
                MutableHeaders(scope=message)[EXPIRY_HEADER] = call.caller.expires_at.isoformat()
            await send(message)

        trace = trace_context.parse(Headers(scope=scope).get(trace_context.HEADER))
        with audit.asking(scope["method"], scope["path"], str(trace) if trace else None) as call:
            await self._app(scope, receive, send_seen)
        if 400 <= status < 500 and (refusal := self._to_write(Request(scope), call, status)) is not None:
            await self._refusals.ask(refusal)

    def _to_write(self, request: Request, call: audit.Asked, status: int) -> Refusal | None:
        """The line of a refusal; None when it is counted."""
        if call.caller is not None:
            return Refusal(call, status)
        secret = secret_of(request)
        sha256 = access.digest(secret) if secret else ""
        refusal = Refusal(call, status, sha256)
        address = request.client.host if request.client else ""
        if self._minute is None:
            self._minute = asyncio.create_task(self._end_minute())
        return refusal if self._tally.is_first(refusal, sha256 or address) else None

    async def _end_minute(self) -> None:
        await asyncio.sleep(self._minute_s)
        self._minute = None
        for refusal in self._tally.end():
            await self._refusals.ask(refusal)

    def _write(self, refusals: Sequence[Refusal]) -> Sequence[None]:
        try:
            with self._database.note() as session:
                known = access.known(session, {one.token_sha256 for one in refusals})
                for one in refusals:
                    one.call.caller = one.call.caller or known.get(one.token_sha256)
                    status, code = one.http_status, one.call.code
                    audit.note(session, one.call, audit.REFUSED, http_status=status, code=code, calls=one.calls)
        except SQLAlchemyError as error:  # it was answered already; nobody is left to tell
            log.warning("audit.failed", lines=len(refusals), error=type(error).__name__)
        return [None] * len(refusals)
