"""What the routes of all dialects share: who calls, what they work with, and how an answer is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from overmind_controlplane.answering.pages import count_pages
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.plane import Plane
from overmind_controlplane.record import audit
from overmind_controlplane.refusals import wrong

_SCHEMES: Final = ("bearer", "api-key")


def the_plane(request: Request) -> Plane:
    """The running control plane."""
    plane: Plane = request.app.state.plane
    return plane


async def _the_plane(request: Request) -> Plane:
    return the_plane(request)


# Dependencies that do not wait are coroutines: FastAPI gives each plain function a thread of its own to run in.
ThePlane = Annotated[Plane, Depends(_the_plane)]


def base_url(request: Request) -> str:
    """How the caller reaches the server, without a slash at the end."""
    return (the_plane(request).settings.public_url or str(request.base_url)).rstrip("/")


def secret_of(request: Request) -> str | None:
    """The token of a request: `Authorization: Bearer` or `Api-Key`, or `X-Api-Key`; None without one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and secret:
        return secret.strip()
    return request.headers.get("x-api-key")


# They ask each other as functions: what a dependency depends on is looked up and bound anew with every call.


async def any_caller(request: Request) -> Caller:
    """
    Raises:
        NotAuthenticated: there is no token, or it is not accepted.
    """
    caller = await the_plane(request).callers.who(secret_of(request))
    if (call := audit.present_call()) is not None:
        call.caller = caller
    return caller


def _with_role(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    async def caller(request: Request) -> Caller:
        who = await any_caller(request)
        who.must_be(role)
        return who

    return caller


AnyCaller = Annotated[Caller, Depends(any_caller)]
Submitter = Annotated[Caller, Depends(_with_role(Role.SUBMIT))]
AgentCaller = Annotated[Caller, Depends(_with_role(Role.AGENT))]
Operator = Annotated[Caller, Depends(_with_role(Role.ADMIN))]


async def open_to_all() -> None:
    """A route that depends on this needs no token, and says so."""


OPEN: Final = Depends(open_to_all)

PageNumber = Annotated[int, Query(ge=1, le=1 << 31)]
PageSize = Annotated[int, Query(ge=1, le=100)]
Fence = Annotated[int | None, Header(alias="Overmind-Attempt", ge=1, le=1 << 31)]
Sequence = Annotated[int | None, Header(alias="Overmind-Sequence", ge=1, le=1 << 31)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[A-Za-z0-9._-]{1,128}$")]


MINIMAL: Final = "return=minimal"
"""A preference (RFC 7240): the caller does not need the whole of what it has changed."""


def answer(model: BaseModel) -> Response:
    """*model* as the answer; always 200, since the published client reads nothing from a 201."""
    return Response(model.model_dump_json(), media_type="application/json")


def answer_json(value: Any, status: int = 200) -> Response:
    """A JSON value as the answer."""
    return JSONResponse(value, status)


def answer_page(items: list[Any], total: int, page: int, size: int) -> Response:
    """One page of *items*; all four numbers are given, or the published client would ask for ever."""
    shown = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in items]
    return JSONResponse(
        {"items": shown, "total": total, "page": page, "size": size, "pages": count_pages(total, size)}
    )


def is_hex(text: str, length: int) -> bool:
    """Whether *text* is lower-case hex of that length: safe as a file name."""
    return len(text) == length and not set(text) - set("0123456789abcdef")


def must_be_sha(sha: str) -> str:
    """
    *sha*, if it is one.

    Raises:
        Invalid: it is not 96 hex characters.
    """
    if not is_hex(sha, 96):
        raise wrong("a blob is named by 96 lower-case hex characters (SHA-384)", "path", "sha")
    return sha
