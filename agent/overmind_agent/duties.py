"""Housekeeping on a clock. Heartbeats, polls and deliveries are not duties: they must not depend on wall time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from structlog.typing import FilteringBoundLogger


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

    def __init__(self, log: FilteringBoundLogger) -> None:
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._log = log
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )

    def start(self, *duties: Duty) -> None:
        """Do each of *duties* from now on."""
        for duty in duties:
            self._scheduler.add_job(self._run, "interval", seconds=duty.every_s, args=[duty], id=duty.name)
        self._scheduler.start()

    def again(self) -> None:
        """Do each duty now and count from here: wall time was moved, and the next run may be years away."""
        for job in self._scheduler.get_jobs():
            self._scheduler.modify_job(job.id, next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        """Begin no further run; one that is under way ends by itself."""
        self._scheduler.shutdown(wait=False)

    def _run(self, duty: Duty) -> None:
        try:
            duty.do()
        except Exception:
            self._log.exception("duty.failed", duty=duty.name)
