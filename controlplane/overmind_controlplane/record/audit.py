"""The audit: who changed what, and who was refused what. A change and its line are one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete
from sqlalchemy.orm import Session

from overmind_controlplane.caller import Caller
from overmind_controlplane.record.appending import append
from overmind_controlplane.record.tables import AuditEntry, now

KEPT_FOR: Final = timedelta(days=90)
GRANTED: Final = "granted"
REFUSED: Final = "refused"
_LONGEST_OBJECT: Final = 512


@dataclass
class Asked:
    """
    The call that is being answered.

    Attributes:
        verb, path: its method and its path; no query, which may hold a signature.
        caller: who asks, once that is known.
        code: of its refusal, for programs.
        traceparent: of the trace that it says it belongs to.
    """

    verb: str
    path: str
    caller: Caller | None = None
    code: str = ""
    traceparent: str | None = None


# One object for a call, in whichever thread its parts run: they see the same one and may fill it in.
_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def asking(verb: str, path: str, traceparent: str | None = None) -> Iterator[Asked]:
    """What changes within the block is changed by this call."""
    call = Asked(verb, path, traceparent=traceparent)
    token = _asked.set(call)
    try:
        yield call
    finally:
        _asked.reset(token)


def present_call() -> Asked | None:
    """The call that is being answered; None when nobody called, as in the sweep."""
    return _asked.get()


def present_trace() -> str | None:
    """The `traceparent` of the call that is being answered, None when it had none."""
    call = _asked.get()
    return call.traceparent if call else None


def note(
    session: Session,
    call: Asked,
    decision: str,
    *,
    http_status: int | None = None,
    code: str | None = None,
    calls: int = 1,
) -> None:
    """
    A line about *call*.

    Args:
        http_status, code: of a refusal.
        calls: how many alike the line stands for.
    """
    caller = call.caller
    line = {
        "project_id": caller.project_id if caller else None,
        "token_id": caller.token_id if caller else None,
        "who": caller.name if caller else "",
        "verb": call.verb,
        "object": call.path.replace("\0", "")[:_LONGEST_OBJECT],
        "decision": decision,
        "http_status": http_status,
        "code": code or None,
        "calls": calls,
    }
    append(session, AuditEntry, line)


def prune(session: Session) -> None:
    """Forget what is older than 90 days."""
    session.execute(delete(AuditEntry).where(AuditEntry.created < now() - KEPT_FOR))
