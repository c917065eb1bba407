"""Agents that ask for a job, answered together where they ask together: a job that is made wakes all that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, offers
from overmind_controlplane.jobs.offers import Turns
from overmind_controlplane.record.batches import Batches
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.tables import Agent, Job
from overmind_controlplane.refusals import NotFound
from overmind_controlplane.shown.jobs import show_jobs

Ask = tuple[Caller, str, frozenset[str] | None, str | None]
"""Who asks, for which agent, for which types of jobs (None for all that it runs), and which start of the agent."""

Offered = wire.Job | wire.Replaced | None

REPLACED: Final = wire.Replaced(message="another start of this agent has taken its place", replaced=True)


class Asking:
    """Makes offers. Once their projects have nothing left, those behind in the batch are told so without a look."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = Turns()
        self._batches: Batches[Ask, Offered] = Batches(self._answer)

    @property
    def batched(self) -> tuple[int, int]:
        """How many batches there were, and how many calls in all of them."""
        return self._batches.batched

    async def offer(self, *ask: *Ask) -> Offered:
        """
        A job for the agent, of one of these types, kept for it for a moment; None when there is none.

        Raises:
            NotFound: the caller has no such agent.
        """
        return await self._batches.ask(ask)

    def _answer(self, asks: Sequence[Ask]) -> Sequence[Offered | Exception]:
        with self._database.note() as session:
            found = _offer_all(session, asks, self._turns)
            jobs = [job for job in found if isinstance(job, Job)]
            told = dict(zip((job.id for job in jobs), show_jobs(session, jobs), strict=True)) if jobs else {}
            return [told[one.id] if isinstance(one, Job) else one for one in found]


def _offer_all(session: Session, asks: Sequence[Ask], turns: Turns) -> list[Job | NotFound | wire.Replaced | None]:
    named = select(Agent).where(Agent.id.in_({agent_id for _, agent_id, *_ in asks}))
    known = {(agent.project_id, agent.id): agent for agent in session.scalars(named)}
    empty: set[frozenset[str]] = set()
    found: list[Job | NotFound | wire.Replaced | None] = []
    for caller, agent_id, job_types, instance in asks:
        agent = known.get((caller.project_id, agent_id))
        if agent is None:
            found.append(NotFound("Agent not found"))
        elif agents.is_replaced(agent, instance):
            found.append(REPLACED)
        elif caller.projects in empty:
            found.append(None)
        else:
            found.append(offers.offer(session, agent, caller.projects, turns, job_types))
            if found[-1] is None and not offers.has_any(session, caller.projects):
                empty.add(caller.projects)
    return found
