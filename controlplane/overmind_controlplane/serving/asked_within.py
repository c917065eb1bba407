"""The trace that the present request says it belongs to."""

from __future__ import annotations

import contextvars
from typing import Final

from starlette.datastructures import Headers

from overmind_executors import trace_context

_given: Final[contextvars.ContextVar[str | None]] = contextvars.ContextVar("traceparent", default=None)


def note(headers: Headers) -> None:
    """Keep what *headers* say, for as long as the request lasts; what is no trace is none."""
    given = trace_context.parse(headers.get(trace_context.HEADER))
    _given.set(str(given) if given else None)


def asked_within() -> str | None:
    """The `traceparent` of the request that is being answered, None when it had none."""
    return _given.get()
