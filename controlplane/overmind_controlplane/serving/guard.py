"""What every request passes first: the Host it names; and what every answer carries."""

from __future__ import annotations

import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overmind_controlplane.answering import error_bodies
from overmind_controlplane.record import audit
from overmind_controlplane.refusals import Refused
from overmind_controlplane.serving.patience import BODY_S, in_time
from overmind_controlplane.serving.traffic import Traffic

log = structlog.get_logger(__name__)


class Guard:
    """
    Refuses foreign hosts, marks answers as data, and writes one debug line for each request.

    A page in a browser may make a name of its own point at 127.0.0.1 and so reach a server that listens there;
    it cannot make the browser send another Host.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str] | None, traffic: Traffic) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            if (refused := self._refusal(scope)) is not None:
                await JSONResponse({"detail": refused[1]}, refused[0])(scope, receive, send_marked)
            else:
                await self._app(scope, in_time(receive, BODY_S), send_marked)
        except ClientDisconnect:
            status = 499
        except Exception:
            if status:
                raise
            await self._own_fault(scope["path"])(scope, receive, send_marked)
        finally:
            duration_s = round(time.monotonic() - started, 4)
            self._traffic.answered(scope["path"], status, duration_s)
            told = {"method": scope["method"], "path": scope["path"], "http_status": status}
            told["traceparent"] = audit.present_trace()
            log.debug("request.answered", **told, duration_s=duration_s)

    @staticmethod
    def _own_fault(path: str) -> JSONResponse:
        """A bug of ours: the reader gets a number, the log the rest."""
        error_id = secrets.token_hex(6)
        log.exception("request.failed", error_id=error_id)
        fault = Refused(f"internal error (ref {error_id})", code="internal_error", error_id=error_id)
        return JSONResponse(error_bodies.body(path, fault), 500)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the words with which a call is turned away before anything of it is looked at."""
        headers = Headers(scope=scope)
        if len(hosts := headers.getlist("host")) > 1:  # a proxy before us may have gone by the other one
            return 400, "there is more than one Host"
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            return 501, "the only Transfer-Encoding that is understood is chunked"
        if self._is_foreign("".join(hosts)):
            return 421, "this server does not go by that name (Host)"
        return None

    def _is_foreign(self, host: str) -> bool:
        if self._allowed_hosts is None:
            return False
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return name.lower().strip("[]") not in self._allowed_hosts
