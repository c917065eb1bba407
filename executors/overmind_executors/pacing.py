"""How hard a provider is pressed: when to try again, when all threads pause, when to give up on it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from overmind_executors.contract import Stop

MAX_RETRY_AFTER_S: Final = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """
    Attributes:
        most_attempts: for one row, when the provider fails.
        most_refusals: for one row, when the provider answers 429: with pauses shared by all threads that is
            patience of some minutes.
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


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """
    What a server asks for in `retry-after-ms` or `Retry-After`, as seconds or as a date, within [0, 60].

    Returns:
        None when it asks for nothing, or for something that is not a time.
    """
    millis, text = headers.get("retry-after-ms", ""), headers.get("Retry-After", "").strip()
    if millis.isascii() and millis.isdigit() and len(millis) < 16:
        return min(int(millis) / 1000, MAX_RETRY_AFTER_S)
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - (now or datetime.now(UTC))).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


class Pause:
    """A time before which no thread sends anything: one refusal holds back all, and is counted once."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    def extend(self, seconds: float) -> None:
        """Pause for at least *seconds* seconds from now."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def wait(self, stop: Stop) -> None:
        """Return when the pause is over or *stop* is set."""
        while (left := self._until - time.monotonic()) > 0 and not stop.wait(left):
            pass


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
