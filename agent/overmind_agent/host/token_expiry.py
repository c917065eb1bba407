"""The token's end: said in time, and once a day, so that nobody learns of it from jobs that stand still."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from structlog.typing import FilteringBoundLogger

WARN_DAYS: Final = 7
DAY_S: Final = 86_400.0
HINT: Final = "make a new one and write it into control_plane.token_file; it is read at the next call"


def days_left(at: datetime, now_s: float) -> float:
    """Until *at*, from *now_s* seconds after 1970; below 0 when it is over."""
    return (at.timestamp() - now_s) / DAY_S


class TokenExpiry:
    """
    Warns when the token ends within WARN_DAYS, and again with each day less. Safe to use from any thread.

    Args:
        keep: told of each answer, too, for whoever asks.
        wall_s: the time of day, in seconds.
    """

    def __init__(
        self,
        keep: Callable[[datetime | None], object],
        log: FilteringBoundLogger,
        *,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._keep = keep
        self._log = log
        self._wall_s = wall_s
        self._said: tuple[datetime, int] | None = None

    def told(self, at: datetime | None) -> None:
        """The server has just said when the token ends; None for never."""
        self._keep(at)
        if at is None or (left := days_left(at, self._wall_s())) > WARN_DAYS:
            return
        now = (at, int(left))
        if now != self._said:
            self._said = now
            self._log.warning(
                "control_plane.token_expires", expires_at=at.isoformat(), days_left=max(0, int(left)), hint=HINT
            )
