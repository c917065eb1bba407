"""A control plane whose calls are seen by somebody: what was asked, how it ended, how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from overmind_agent import tracing
from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    OvermindAgentError,
    ProtocolError,
    RejectedError,
    TransientError,
)
from overmind_agent.jobs import NoJob
from overmind_agent.ports import ControlPlane
from overmind_agent.telemetry.traces import Traces

TOO_MANY_REQUESTS: Final = 429
# Those that do not talk to the server.
QUIET: Final = frozenset({"stop_waiting"})

OUTCOMES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (AuthError, "token_refused"),
    (ClaimLost, "claim_lost"),
    (RejectedError, "rejected"),
    (ProtocolError, "unreadable"),
    (TransientError, "away"),
    (OvermindAgentError, "failed"),
)
"""What an error is called; the first that fits. `throttled` is an `away` that asks for patience."""


@dataclass(frozen=True)
class Call:
    """
    One call that has ended.

    Attributes:
        verb: the port's own name for it.
        outcome: `ok`, `no_job`, or one of OUTCOMES.
        error: what it raised.
    """

    verb: str
    outcome: str
    seconds: float
    error: BaseException | None


def watched(plane: ControlPlane, on_call: Callable[[Call], object], traces: Traces) -> ControlPlane:
    """*plane*, whose every call *on_call* is told of, in the thread that made it, and belongs to a trace."""
    return cast("ControlPlane", _Watched(plane, on_call, traces))


class _Watched:
    """Has the methods of what it wraps."""

    def __init__(self, plane: ControlPlane, on_call: Callable[[Call], object], traces: Traces) -> None:
        self._plane = plane
        self._on_call = on_call
        self._traces = traces

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._plane, verb)
        if verb in QUIET:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            began_s = time.monotonic()
            try:
                with tracing.within(self._traces.of(args[0] if args else None)):
                    found = method(*args, **kwargs)
            except Exception as error:
                self._on_call(Call(verb, outcome_of(error), time.monotonic() - began_s, error))
                raise
            self._traces.learn(found)
            outcome = "no_job" if isinstance(found, NoJob) else "ok"
            self._on_call(Call(verb, outcome, time.monotonic() - began_s, None))
            return found

        self.__dict__[verb] = call  # from now on found without coming here
        return call


def outcome_of(error: BaseException) -> str:
    """What *error* is called."""
    if isinstance(error, TransientError) and (
        error.http_status == TOO_MANY_REQUESTS or error.retry_after_s is not None
    ):
        return "throttled"
    return next((name for kind, name in OUTCOMES if isinstance(error, kind)), "failed")
