"""
Housekeeping on a clock. Heartbeats, polls and deliveries are not duties: they must not depend on wall time.

A duty that stands still, or that nobody begins any more, is said and begun anew; it ends no job and no daemon.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from structlog.typing import FilteringBoundLogger

from overmind_agent.ports import Clock

# How long a duty may take, on top of two of its turns: removing large folders takes a while.
LIMIT_S: Final = 600.0
# What lies between two looks at most. More was not lived through: the host was suspended.
MOST_GAP_S: Final = 10.0


@dataclass(frozen=True)
class Duty:
    """Something to do every *every_s* seconds, by wall time; `name` is for the log."""

    name: str
    every_s: float
    do: Callable[[], object]


class Duties:
    """
    Runs duties in two threads of their own, each duty one at a time.

    APScheduler drops a run that is a second late and logs two lines for every run unless it is told otherwise.
    """

    def __init__(self, clock: Clock, log: FilteringBoundLogger) -> None:
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._left_s: dict[str, float] = {}
        self._late: set[str] = set()
        self._looked_at_s = clock.now_s()
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )

    def start(self, *duties: Duty) -> None:
        """Do each of *duties* from now on."""
        for duty in duties:
            self._turn(duty)
            self._scheduler.add_job(self._run, "interval", seconds=duty.every_s, args=[duty], id=duty.name)
        self._scheduler.start()

    def again(self) -> None:
        """Do each duty now and count from here: wall time was moved, and the next run may be years away."""
        for job in self._scheduler.get_jobs():
            self._scheduler.modify_job(job.id, next_run_time=datetime.now(UTC))

    def look(self) -> None:
        """Notice duties that stand still. To be called every few seconds."""
        now_s = self._clock.now_s()
        with self._lock:
            passed_s, self._looked_at_s = min(MOST_GAP_S, now_s - self._looked_at_s), now_s
            for name in self._left_s:
                self._left_s[name] -= passed_s
            found = {name for name, left_s in self._left_s.items() if left_s < 0} - self._late
            self._late |= found
        if found:
            self._log.error("duty.late", duties=sorted(found), hint="SIGUSR1 shows where it stands")
            self.again()

    def stop(self) -> None:
        """Begin no further run; one that is under way ends by itself."""
        self._scheduler.shutdown(wait=False)

    def _run(self, duty: Duty) -> None:
        self._turn(duty)
        try:
            duty.do()
        except Exception:
            self._log.exception("duty.failed", duty=duty.name)
        self._turn(duty)

    def _turn(self, duty: Duty) -> None:
        with self._lock:
            self._left_s[duty.name] = 2 * duty.every_s + LIMIT_S
            self._late.discard(duty.name)
