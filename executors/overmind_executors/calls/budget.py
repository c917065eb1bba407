"""What a job may spend: checked before every call, so never exceeded by more than the calls in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from overmind_executors.parameters import Parameters


class Limits(Parameters):
    """
    A job's `budget`; None is no limit.

    Attributes:
        max_seconds: of work, summed over the job's attempts.
    """

    max_calls: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_usd: Annotated[float, Field(gt=0)] | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None

    def within(self, host: Mapping[str, float]) -> Limits:
        """The smaller of each limit here and the one of the same name that the host has."""
        own = self.model_dump(exclude_none=True)
        return Limits.model_validate(
            {**own, **{name: min(most, own.get(name, most)) for name, most in host.items()}}
        )


@dataclass(frozen=True)
class Spent:
    """What a job has used: calls sent, tokens in and out, US dollars, seconds of work."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0


class Purse:
    """Hands out calls until a limit is reached; safe from any thread."""

    def __init__(self, limits: Limits, spent: Spent) -> None:
        self._limits = limits
        self._calls, self._tokens, self._usd = spent.calls, spent.tokens, spent.usd
        self._began_at = time.monotonic() - spent.seconds
        self._lock = threading.Lock()

    def take_call(self) -> bool:
        """Whether one more call may be made; if so it counts from now on."""
        with self._lock:
            used = (self._calls, self._tokens, self._usd, time.monotonic() - self._began_at)
            limits = self._limits
            allowed = (limits.max_calls, limits.max_tokens, limits.max_usd, limits.max_seconds)
            if any(most is not None and now >= most for now, most in zip(used, allowed, strict=True)):
                return False
            self._calls += 1
            return True

    def spent(self) -> Spent:
        """What was handed out and paid so far, over all attempts of the job; needs no disk."""
        with self._lock:
            return Spent(self._calls, self._tokens, self._usd, time.monotonic() - self._began_at)

    def pay(self, *, tokens: int, usd: float) -> None:
        """Book what a call has cost."""
        with self._lock:
            self._tokens += tokens
            self._usd += usd
