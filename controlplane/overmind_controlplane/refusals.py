"""
What the control plane says no with: one exception, made by the rules, written out by the dialects.

A rule (`board`, `files`, `access`) raises and knows nothing of HTTP bodies; `app` turns it into the shape of the
dialect that was spoken.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


class Refused(Exception):
    """
    The call is understood and not granted.

    Attributes:
        http_status: of the answer.
        detail: for people.
        code: for programs, from the list in `docs/protocol.md`; empty for none.
        more: further keys of the answer's body, such as `expected`.
        headers: of the answer.
    """

    http_status = 400

    def __init__(self, detail: str, *, code: str = "", headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.more = more
        self.headers = headers


class NotAuthenticated(Refused):
    """No token, or one that is not accepted."""

    http_status = 401

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Refused):
    """The token's role does not cover the call."""

    http_status = 403


class NotFound(Refused):
    """There is no such thing, or it belongs to another project: nobody can tell which."""

    http_status = 404


class Conflict(Refused):
    """The call does not fit what is there now; `code` says how."""

    http_status = 409


class Garbled(Refused):
    """The body is not what was sent; the same call may be repeated."""

    http_status = 412


class TooSlow(Refused):
    """The body does not come."""

    http_status = 408


class TooLarge(Refused):
    """The body is longer than the limit."""

    http_status = 413


class Unavailable(Refused):
    """The call was not carried out, and will be when it is repeated a moment later."""

    http_status = 503

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="unavailable", headers={"Retry-After": "1"})


class Invalid(Refused):
    """
    Parts of the call are wrong.

    Attributes:
        problems: one for each part: `{"loc": ["body", "name"], "msg": "…", "type": "…"}`.
    """

    http_status = 422

    def __init__(self, *problems: dict[str, Any]) -> None:
        super().__init__("; ".join(str(problem["msg"]) for problem in problems))
        self.problems = list(problems)


class WrongFields(Refused):
    """Fields of an Overmind Lab body or query that are wrong: their names, and what is wrong with each."""

    http_status = 400

    def __init__(self, fields: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(found)}" for name, found in fields.items()))
        self.fields = fields


def wrong(message: str, *loc: str | int, kind: str = "value_error") -> Invalid:
    """One part of the call is wrong: *loc* names it, as `"body", "sources", 0`."""
    return Invalid({"loc": list(loc), "msg": message, "type": kind})


def not_valid(error: ValidationError, *loc: str | int) -> Invalid:
    """What pydantic found at *loc* of a call, the whole body without one; and no value that it found there."""
    lines = error.errors(include_url=False, include_context=False, include_input=False)
    here = loc or ("body",)
    return Invalid(*({"loc": [*here, *line["loc"]], "msg": line["msg"], "type": line["type"]} for line in lines))
