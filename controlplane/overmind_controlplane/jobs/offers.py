"""
Offers: which job an agent is shown next. Higher priority first, then the projects in
turn, then older first.

The cost does not grow with the queue: an agent is matched with demands, of which there are a few, and each of them
has its first open job at the head of an index. Only jobs that are kept for others at this moment are stepped over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.jobs import timers
from overmind_controlplane.jobs.matching import met_by
from overmind_controlplane.record.tables import OPEN, Agent, Job

_ORDER: Final = (Job.priority.desc(), Job.number)


_FIRST: Final = (
    select(Job.number)
    .where(OPEN, timers.is_free_for(bindparam("agent_id")), Job.demand == bindparam("of_demand"))
    .order_by(*_ORDER)
    .limit(1)
    # Whoever has locked it is about to claim it or to keep it for another agent.
    .with_for_update(skip_locked=True, key_share=True)
)
_RESERVING_THE_FIRST: Final = timers.reserving(_FIRST.scalar_subquery())


def available(session: Session, agent: Agent, project_ids: Collection[str]) -> Select[Job]:
    """The jobs of these projects that *agent* may claim now, by priority and age."""
    free = select(Job).where(OPEN, timers.is_free_for(agent.id))
    return free.where(Job.demand.in_(met_by(session, agent, project_ids))).order_by(*_ORDER)


class Turns:
    """
    Whose turn it is: of jobs with the same priority, the one whose project was served least recently goes first.

    Kept in memory, by each server for itself: after a restart the round begins anew.
    """

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[str, int] = {}

    def last(self, project_id: str) -> int:
        """The higher, the more recently it was served; 0 for never."""
        return self._last.get(project_id, 0)

    def served(self, project_id: str) -> None:
        """One of its jobs was offered."""
        self._count += 1
        self._last[project_id] = self._count


def offer(
    session: Session,
    agent: Agent,
    project_ids: Collection[str],
    turns: Turns,
    job_types: frozenset[str] | None,
) -> Job | None:
    """
    The first job of these projects that *agent* may claim, kept for it for a moment; claims nothing.

    Args:
        job_types: only of one of these types; None for all.
    """
    demands = met_by(session, agent, project_ids, job_types)
    for demand in demands if len(demands) == 1 else _by_first_job(session, agent, demands, turns):
        if (job := timers.reserve(session, _RESERVING_THE_FIRST, agent.id, of_demand=demand)) is not None:
            turns.served(job.project_id)
            return job
    return None


def has_any(session: Session, project_ids: Collection[str]) -> bool:
    """Whether one of these projects has an open job that is kept for nobody."""
    anybody = timers.is_free_for("")
    # By its name, so that the index by project and status is used, which starts with what waits.
    waiting = select(Job.number).where(Job.project_id.in_(project_ids), Job.status == Status.PENDING, OPEN, anybody)
    return session.scalar(waiting.limit(1)) is not None


def _by_first_job(session: Session, agent: Agent, demands: Sequence[int], turns: Turns) -> list[int]:
    """Those of *demands* that have open jobs for *agent*, in the order in which their first ones are to go."""
    first = []
    for demand in demands:
        place = select(Job.priority, Job.number, Job.project_id).where(
            OPEN, timers.is_free_for(agent.id), Job.demand == demand
        )
        if (found := session.execute(place.order_by(*_ORDER).limit(1)).first()) is not None:
            first.append((-found.priority, turns.last(found.project_id), found.number, demand))
    return [demand for *_, demand in sorted(first)]
