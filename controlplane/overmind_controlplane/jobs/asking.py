"""
Agents that ask for a job, answered together where they ask together: a job that is made wakes all that wait.

An ask with a key is granted what it is offered, in the same transaction, and kept under that key: asked again
before the first word about that attempt, it gets the same grant. After that word the agent knows what it has, and a
key that is used again comes from somewhere else, such as a copy of its state folder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_agent.lifecycle import Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, claiming, offers
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.fence import is_fresh
from overmind_controlplane.jobs.handing_over import HandingOver
from overmind_controlplane.jobs.offers import Turns
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record import audit, idempotency
from overmind_controlplane.record.batches import Batches
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.tables import Agent, IdempotencyKey, Job
from overmind_controlplane.refusals import Conflict, NotFound

Offered = wire.Job | wire.Replaced | None

REPLACED: Final = wire.Replaced(message="another start of this agent has taken its place", replaced=True)


@dataclass(frozen=True)
class Ask:
    """
    One question.

    Attributes:
        job_types: only jobs of these; None for all that the agent runs, empty for what its key was granted alone.
        instance: which start of the agent asks.
        key: under which what there is shall be granted; None for an offer.
        message: what a grant's line in the history says.
        call: for the audit.
        arrived_s: when it came, on the monotonic clock.
    """

    caller: Caller
    agent_id: str
    job_types: frozenset[str] | None = None
    instance: str | None = None
    key: str | None = None
    message: str | None = None
    call: audit.Asked | None = None
    arrived_s: float = field(default_factory=time.monotonic)


Found = Job | Conflict | NotFound | wire.Replaced | None


_NAMED: Final = select(Agent).where(Agent.id.in_(bindparam("agent_ids", expanding=True)))


class Asking:
    """Makes offers, and grants. Once their projects have nothing left, those behind are told so without a look."""

    def __init__(self, database: Database, board: Board, handing_over: HandingOver) -> None:
        self._database = database
        self._board = board
        self._handing_over = handing_over
        self._turns = Turns()
        self._batches: Batches[Ask, Offered] = Batches(self._answer)

    @property
    def batched(self) -> tuple[int, int]:
        """How many batches there were, and how many calls in all of them."""
        return self._batches.batched

    async def ask(self, ask: Ask) -> Offered:
        """
        A job for the agent, of one of these types, granted or kept for it for a moment; None when there is none.

        Raises:
            NotFound: the caller has no such agent.
            Conflict: `superseded`: what the key was granted is over, or known to its holder.
        """
        return await self._batches.ask(ask)

    def _answer(self, asks: Sequence[Ask]) -> Sequence[Offered | Exception]:
        try:
            return self._together(asks)
        except Exception as error:
            if len(asks) == 1 or self._database.store.is_away(error):
                return [error] * len(asks)
        return [answer for ask in asks for answer in self._answer([ask])]

    def _together(self, asks: Sequence[Ask]) -> Sequence[Offered | Exception]:
        # An offer may be taken back by a crash, a grant may not.
        change = self._database.write if any(ask.key for ask in asks) else self._database.note
        with change() as session:
            began_s = time.monotonic()
            found = self._find_all(session, asks)
            idempotency.settle(session)
            jobs = [job for job in found if isinstance(job, Job)]
            granted = {job.id for ask, job in zip(asks, found, strict=True) if ask.key and isinstance(job, Job)}
            shown = iter(self._handing_over.show(session, jobs, granted))
            told = [next(shown) if isinstance(one, Job) else one for one in found]
        return [self._handed(ask, one, began_s) for ask, one in zip(asks, told, strict=True)]

    def _handed(
        self, ask: Ask, told: wire.Job | Conflict | NotFound | wire.Replaced | None, began_s: float
    ) -> Offered | Exception:
        """Its holder may count the lease from when it asked, and for so long it waited before that."""
        if not isinstance(told, wire.Job) or told.lease is None:
            return told
        lease = told.lease.model_copy(update={"waited_s": max(0.0, began_s - ask.arrived_s)})
        return self._handing_over.with_contents(told.model_copy(update={"lease": lease}))

    def _find_all(self, session: Session, asks: Sequence[Ask]) -> list[Found]:
        named = session.scalars(_NAMED, {"agent_ids": list({ask.agent_id for ask in asks})})
        known = {(agent.project_id, agent.id): agent for agent in named}
        granted = idempotency.find_all(session, {place for ask in asks for place in _places(ask)})
        empty: set[frozenset[str]] = set()
        found: list[Found] = []
        for ask in asks:
            agent = known.get((ask.caller.project_id, ask.agent_id))
            if agent is None:
                found.append(NotFound("Agent not found"))
            elif agents.is_replaced(agent, ask.instance):
                found.append(REPLACED)
            elif (before := next((granted[at] for at in _places(ask) if at in granted), None)) is not None:
                found.append(self._same_again(session, ask, before))
            elif ask.caller.projects in empty or ask.job_types == frozenset():
                found.append(None)
            else:
                found.append(job := offers.offer(session, agent, ask.caller.projects, self._turns, ask.job_types))
                if job is not None and ask.key is not None:
                    self._grant(session, ask, agent, job)
                if job is None and not offers.has_any(session, ask.caller.projects):
                    empty.add(ask.caller.projects)
        return found

    def _grant(self, session: Session, ask: Ask, agent: Agent, job: Job) -> None:
        word = Word(Status.CLAIMED, agent_id=agent.id, key=ask.key, message=ask.message)
        known = claiming.Known({(ask.caller.project_id, agent.id): agent}, {})
        self._board.report(session, ask.caller, job, word, known)
        if ask.call is not None:
            audit.note(session, ask.call, audit.GRANTED)

    def _same_again(self, session: Session, ask: Ask, before: IdempotencyKey) -> Job | Conflict:
        job = self._board.get_all(session, {before.made}).get(before.made)
        if job is not None and is_fresh(job, ask.agent_id, before.attempt):
            self._board.renew(session, job)
            return job
        return Conflict("what this key was granted is over, or begun; ask with another key", code="superseded")


def _places(ask: Ask) -> Iterable[tuple[str, str]]:
    """Where a grant under the key of *ask* is noted: with the project of its job."""
    if ask.key is None:
        return ()
    return [(claiming.scope_in(project_id, ask.agent_id), ask.key) for project_id in sorted(ask.caller.projects)]
