"""Who looks at the page: a token, once shown, becomes a signed cookie; each request looks the token up again."""

from __future__ import annotations

import hmac
import re
import time
from typing import Annotated, Final
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import Depends, Request, Response

from overmind_controlplane.access import authenticate_id
from overmind_controlplane.answering.routing import ThePlane, base_url, secret_of
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.plane import Plane
from overmind_controlplane.record import audit
from overmind_controlplane.refusals import Forbidden, NotAuthenticated

COOKIE: Final = "overmind_visit"
VISIT_S: Final = 12 * 3600
_PURPOSE: Final = "visit"
_SHAPE: Final = re.compile(r"([0-9a-f-]{36})\.([0-9]{1,12})\.([0-9a-f]{64})")


def begin(request: Request, response: Response, plane: Plane, caller: Caller) -> None:
    """Give the browser a cookie that stands for *caller* for twelve hours; the secret is not in it."""
    expires = str(int(time.time()) + VISIT_S)
    value = f"{caller.token_id}.{expires}.{plane.signer.mac(_PURPOSE, caller.token_id, expires)}"
    response.set_cookie(
        COOKIE,
        value,
        max_age=VISIT_S,
        httponly=True,
        samesite="strict",
        secure=base_url(request).startswith("https:"),
    )


def end(response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def must_be_own(request: Request) -> None:
    """
    A form is taken from a page of ours alone. Of what is no browser, which names no origin, a cookie is not sent.

    Raises:
        Forbidden: another site sent it.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    host = request.headers.get("host", "")
    if site not in (None, "same-origin", "none") or (origin is not None and _host_of(origin) != host):
        raise Forbidden("this form was sent by another site")


def _host_of(origin: str) -> str | None:
    """None when it is no address at all."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def visitor_of(plane: Plane, cookie: str) -> Caller:
    """
    Whose visit *cookie* is; the token counts as it is now. Reads the database.

    Raises:
        NotAuthenticated: nobody's, or not any more.
    """
    found = _SHAPE.fullmatch(cookie)
    if found is None:
        raise NotAuthenticated("Sign in with a token.")
    token_id, expires, told = found.groups()
    if not hmac.compare_digest(told, plane.signer.mac(_PURPOSE, token_id, expires)):
        raise NotAuthenticated("Sign in with a token.")
    if int(expires) < time.time():
        raise NotAuthenticated("This visit has ended; sign in again.")
    with plane.database.glance() as session:
        return authenticate_id(session, token_id)


async def _any_visitor(request: Request, plane: ThePlane) -> Caller:
    """
    Raises:
        NotAuthenticated: neither a token nor a cookie, or one that is not accepted.
    """
    secret, cookie = secret_of(request), request.cookies.get(COOKIE, "")
    caller = await run_sync(visitor_of, plane, cookie) if cookie and not secret else await plane.callers.who(secret)
    if (call := audit.present_call()) is not None:
        call.caller = caller
    return caller


async def person(who: Annotated[Caller, Depends(_any_visitor)]) -> Caller:
    """
    Raises:
        Forbidden: the token is an agent's.
    """
    who.must_be(Role.SUBMIT)
    return who


async def administrator(who: Annotated[Caller, Depends(_any_visitor)]) -> Caller:
    """
    Raises:
        Forbidden: the token is not an administrator's.
    """
    who.must_be(Role.ADMIN)
    return who


Person = Annotated[Caller, Depends(person)]
Administrator = Annotated[Caller, Depends(administrator)]
