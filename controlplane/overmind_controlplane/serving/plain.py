"""
The agent-pull dialect without our extensions: what `serve --plain` puts before the application.

For operators who want a server that speaks only what the published client speaks, and for whoever tests a client
against one. The other two dialects stay as they are.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overmind_agent.lifecycle import Status

_ROOT: Final = "/api/v2/"
_ROUTES: Final = re.compile(
    r"[A-Z]+ /api/v2/(capabilities|agents/[^/]+/(job|claims|heartbeat|reports)|jobs/[^/]+/logs)"
    r"|GET /api/v2/tokens/multipart-upload|POST /api/v2/models/[^/]+/artifacts/together"
)
"""Methods and paths that only the extensions have."""

_HEADERS: Final = frozenset(
    {b"overmind-attempt", b"overmind-sequence", b"idempotency-key", b"overmind-signature", b"prefer"}
)
_OF_A_JOB: Final = frozenset(
    {"attempt", "lease", "limits", "priority", "labels", "input", "input_file", "parameters", "signature"}
)
_OF_A_STATUS: Final = frozenset({"attempt", "detail"})


class Plain:
    """
    Hides the extensions: their paths are not there, their headers are not read, their keys are in no answer.

    A release is an extension too: PENDING is a status that only the server gives.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith(_ROOT):
            await self._app(scope, receive, send)
        elif _ROUTES.fullmatch(f"{scope['method']} {scope['path']}"):
            await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)
        elif _is_release(scope):
            await JSONResponse({"detail": "no agent sets this status"}, 409)(scope, receive, send)
        else:
            read = [(name, value) for name, value in scope["headers"] if name not in _HEADERS]
            await self._app({**scope, "headers": read}, receive, _Answer(send).pass_on)


class _Answer:
    """One answer on its way: JSON is kept until it is whole, anything else goes through as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def pass_on(self, message: Message) -> None:
        """Send *message*, or keep it until the rest is there."""
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_whole(self._start)

    async def _send_whole(self, start: Message) -> None:
        body = json.dumps(_published(json.loads(self._body))).encode()
        kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        await self._send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})


def _published(value: Any) -> Any:
    """*value* without the keys that only the extensions have."""
    if isinstance(value, list):
        return [_published(member) for member in value]
    if not isinstance(value, dict):
        return value
    hidden = _OF_A_JOB if "function" in value else _OF_A_STATUS if "job_id" in value else frozenset[str]()
    return {name: _published(member) for name, member in value.items() if name not in hidden}


def _is_json(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    return bool(headers.get(b"content-type", b"").startswith(b"application/json"))


def _is_release(scope: Scope) -> bool:
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    is_status = scope["method"] == "PUT" and scope["path"].endswith("/status")
    return is_status and asked.get("status_name") == [Status.PENDING.value]
