"""What every call passes last: it is known to the audit while it is answered, and a refusal leaves a line there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overmind_controlplane import audit
from overmind_controlplane.batches import Batches
from overmind_controlplane.database import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A call that was refused, and how."""

    call: audit.Asked
    http_status: int


class Audited:
    """
    Changes write their own lines, with the change (`Database.write`); what is refused changes nothing, so its line
    is written here, once it is answered.

    Stands behind the limits: whoever calls too often does not fill the audit too.
    """

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._database = database
        self._refusals = Batches(self._write)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_seen(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        with audit.asking(scope["method"], scope["path"]) as call:
            await self._app(scope, receive, send_seen)
        if 400 <= status < 500:
            await self._refusals.ask(Refusal(call, status))

    def _write(self, refusals: Sequence[Refusal]) -> Sequence[None]:
        try:
            with self._database.note() as session:
                for one in refusals:
                    status, code = one.http_status, one.call.code
                    audit.note(session, one.call, audit.REFUSED, http_status=status, code=code)
        except SQLAlchemyError as error:  # it was answered already; nobody is left to tell
            log.warning("audit.failed", lines=len(refusals), error=type(error).__name__)
        return [None] * len(refusals)
