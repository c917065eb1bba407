"""What this agent knows of the control plane: when it answered last, and what is wrong between the two."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime

from overmind_agent.errors import AuthError, ControlPlaneError, RejectedError
from overmind_agent.ports import Clock


@dataclass(frozen=True)
class ContactState:
    """
    At one moment.

    Attributes:
        answered_at_s: on the monotonic clock, when it last answered anything; None before the first answer.
        trouble: why the last call that failed did so, None since a later one went well.
        is_refused: whether that was for the token, or for what the token may not do.
        token_expires_at: when the token ends, None for never as far as is known.
    """

    answered_at_s: float | None = None
    trouble: str | None = None
    is_refused: bool = False
    token_expires_at: datetime | None = None


class Contact:
    """Told how each call of every thread ended. Safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._state = ContactState()

    def ended(self, error: ControlPlaneError | None) -> None:
        """A call has ended, well or with *error*. That a job is not ours is an answer like any other."""
        now_s = self._clock.now_s()
        with self._lock:
            if isinstance(error, AuthError):
                self._state = replace(self._state, answered_at_s=now_s, trouble=str(error), is_refused=True)
            elif error is None or isinstance(error, RejectedError):
                self._state = replace(self._state, answered_at_s=now_s, trouble=None, is_refused=False)
            else:
                self._state = replace(self._state, trouble=str(error), is_refused=False)

    def token_expires(self, at: datetime | None) -> None:
        """The server has said when the token ends; None for never."""
        if at != self._state.token_expires_at:
            with self._lock:
                self._state = replace(self._state, token_expires_at=at)

    @property
    def state(self) -> ContactState:
        """As it is now."""
        return self._state
