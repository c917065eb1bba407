"""When a call is tried again, and when no more."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """
    Attributes:
        most_attempts: for one row, when the provider fails.
        most_refusals: for one row, when the provider says that it has too much to do: with pauses shared by all
            threads that is patience of some minutes.
        base_s, cap_s: seconds between two attempts, at least and at most.
        budget: retries that a job may make before any call has gone well; see RetryBudget.
    """

    most_attempts: int = 4
    most_refusals: int = 10
    base_s: float = 0.5
    cap_s: float = 20.0
    budget: int = 30


def next_wait_s(
    previous_s: float, policy: RetryPolicy, draw: Callable[[float, float], float] = random.uniform
) -> float:
    """
    Seconds to wait after another failure, with decorrelated jitter.

    Args:
        previous_s: what was waited before; `policy.base_s` at first.
        draw: a number between its two arguments.

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return min(policy.cap_s, draw(policy.base_s, max(policy.base_s, previous_s * 3)))


class RetryBudget:
    """
    Ends the retrying against a provider that is dead: each retry takes one, each good answer gives half a one back,
    so that a provider with one bad call in three is borne for ever and one that fails always is given up after
    *size* retries.
    """

    def __init__(self, size: int) -> None:
        self._size = float(size)
        self._left = float(size)
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more retry may be made."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """A call went well."""
        with self._lock:
            self._left = min(self._size, self._left + 0.5)
