"""A circuit breaker: a provider that fails every time is asked by one call at a time, and then given up."""

from __future__ import annotations

import math
from typing import Final

# So many failures, one after the other, with no good answer between them.
OPENS_AFTER: Final = 8
DEAD_AFTER_S: Final = 40.0


class Breaker:
    """
    Times are passed in, seconds on any clock that only goes forward. Not safe from several threads: see `gate`.

    Args:
        base_s, cap_s: the wait before the first probe and the longest before any; each is twice the one before.
    """

    def __init__(self, *, base_s: float, cap_s: float) -> None:
        self._base_s, self._cap_s = base_s, cap_s
        self._failures = 0
        self._open_since_s = math.inf
        self._next_probe_s = -math.inf

    def wait_s(self, now_s: float, in_flight: int) -> float:
        """Seconds until a call may be sent; infinite while a probe is under way."""
        if not self.is_open:
            return 0.0
        return math.inf if in_flight else max(0.0, self._next_probe_s - now_s)

    @property
    def is_open(self) -> bool:
        """Whether only probes are sent."""
        return self._failures >= OPENS_AFTER

    def is_dead(self, now_s: float) -> bool:
        """Whether the provider has failed all the time for so long that waiting on is a waste."""
        return self.is_open and now_s - self._open_since_s >= DEAD_AFTER_S

    def answered(self) -> None:
        """The provider does answer."""
        self._failures = 0
        self._open_since_s = math.inf

    def failed(self, now_s: float) -> None:
        """A call met a failure of the provider or of the way to it."""
        self._failures += 1
        if self.is_open:
            self._open_since_s = min(self._open_since_s, now_s)
            probes = min(self._failures - OPENS_AFTER, 30)
            self._next_probe_s = now_s + min(self._cap_s, self._base_s * 2**probes)
