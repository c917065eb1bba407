"""How many jobs of a project may wait: one that makes jobs without end must not fill the store for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import Refused

RECOUNT_S: Final = 1.0
"""A project that is refused again and again does not have its jobs counted again and again."""
RETRY_AFTER_S: Final = 30


class TooManyJobs(Refused):
    """So many jobs of the project wait that no more are taken for now."""

    http_status = 429


@dataclass
class _Room:
    left: int
    counted_at_s: float


class Quota:
    """
    Counts rarely: after a count, as many jobs as there was room for may be made without another. Each server
    process counts for itself. Safe to use from any thread.

    Args:
        most: how many jobs of a project may wait, 0 for any number.
        clock: seconds from some fixed moment.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._rooms: dict[str, _Room] = {}

    def take(self, session: Session, project_id: str) -> None:
        """
        Make room for one more job.

        Raises:
            TooManyJobs: there is none.
        """
        if not self._most:
            return
        with self._lock:
            room = self._rooms.get(project_id)
            if room is None or (room.left <= 0 and self._clock() - room.counted_at_s >= RECOUNT_S):
                room = self._rooms[project_id] = _Room(self._most - _waiting(session, project_id), self._clock())
            if room.left <= 0:
                raise TooManyJobs(
                    f"{self._most} jobs of this project wait already; cancel some, or start agents for them",
                    code="too_many_jobs",
                    headers={"Retry-After": str(RETRY_AFTER_S)},
                )
            room.left -= 1


def _waiting(session: Session, project_id: str) -> int:
    waiting = select(func.count()).where(Job.project_id == project_id, Job.status == Status.PENDING)
    return session.scalar(waiting) or 0
