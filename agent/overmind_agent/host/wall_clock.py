"""
The time of day, which nothing here depends on but the housekeeping and whoever reads the log: that it was moved, or
differs from the control plane's, is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.ports import Clock

# What a clock that is set gradually, or a busy host, may differ by from one look to the next.
STEP_S: Final = 5.0
MOST_SKEW_S: Final = 60.0


class WallClock:
    """
    Compares wall time with a clock that nobody moves, and with the server's.

    Args:
        on_step: called when wall time was moved.
        wall_s: the time of day, in seconds.
    """

    def __init__(
        self,
        clock: Clock,
        on_step: Callable[[], object],
        log: FilteringBoundLogger,
        *,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall_s = wall_s
        self._on_step = on_step
        self._log = log
        self._ahead_s = wall_s() - clock.now_s()
        self._is_skewed = False

    def look(self) -> None:
        """Notice a step since the last look."""
        ahead_s = self._wall_s() - self._clock.now_s()
        moved_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(moved_s) > STEP_S:
            self._log.warning("clock.stepped", moved_s=round(moved_s))
            self._on_step()

    def compare(self, date: datetime) -> None:
        """Notice a difference from *date*, which the server has just sent. From any thread."""
        skew_s = self._wall_s() - date.timestamp()
        is_skewed = abs(skew_s) > MOST_SKEW_S
        if is_skewed and not self._is_skewed:
            hint = "set this host's clock, or the server's; leases do not depend on it, certificates do"
            self._log.warning("clock.skewed", skew_s=round(skew_s), hint=hint)
        self._is_skewed = is_skewed
