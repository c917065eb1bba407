"""
Offers: which job an agent is shown next. Higher priority first, then older first.

The cost does not grow with the queue: an agent is matched with demands, of which there are a few, and each of them
has its first open job at the head of an index. Only jobs that are kept for others at this moment are stepped over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane import timers
from overmind_controlplane.matching import met_by
from overmind_controlplane.tables import OPEN, Agent, Job

_ORDER: Final = (Job.priority.desc(), Job.number)


def available(session: Session, agent: Agent) -> Select[Job]:
    """The jobs that *agent* may claim now, in the order in which they are offered."""
    return _open(agent).where(Job.demand.in_(met_by(session, agent))).order_by(*_ORDER)


def offer(session: Session, agent: Agent) -> Job | None:
    """The first job that *agent* may claim, kept for it for a moment; claims nothing."""
    demands = met_by(session, agent)
    for demand in demands if len(demands) == 1 else _by_first_job(session, agent, demands):
        first = _open(agent).where(Job.demand == demand).order_by(*_ORDER).limit(1)
        # Whoever has locked it is about to claim it or to keep it for another agent.
        job = session.scalar(first.with_for_update(skip_locked=True, key_share=True))
        if job is not None:
            timers.reserve(session, job, agent.id)
            return job
    return None


def has_any(session: Session, project_id: str) -> bool:
    """Whether the project has an open job that is kept for nobody."""
    anybody = timers.is_free_for("")
    # By its name, so that the index by project and status is used, which starts with what waits.
    waiting = select(Job.number).where(Job.project_id == project_id, Job.status == Status.PENDING, OPEN, anybody)
    return session.scalar(waiting.limit(1)) is not None


def _open(agent: Agent) -> Select[Job]:
    return select(Job).where(OPEN, timers.is_free_for(agent.id))


def _by_first_job(session: Session, agent: Agent, demands: Sequence[int]) -> list[int]:
    """Those of *demands* that have open jobs for *agent*, in the order of their first ones."""
    first = []
    for demand in demands:
        place = select(Job.priority, Job.number).where(OPEN, timers.is_free_for(agent.id), Job.demand == demand)
        if (found := session.execute(place.order_by(*_ORDER).limit(1)).first()) is not None:
            first.append((-found.priority, found.number, demand))
    return [demand for _, _, demand in sorted(first)]
