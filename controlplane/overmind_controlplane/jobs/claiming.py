"""
Claims: what is looked up before they are decided, for a whole batch at once, and how one is decided.

A claim that is granted is a new attempt of the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, iterations, sequence, timers
from overmind_controlplane.jobs.fence import superseded
from overmind_controlplane.jobs.moving import move
from overmind_controlplane.jobs.steps import step
from overmind_controlplane.jobs.waiting import agent_topic
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.database import ring
from overmind_controlplane.record.tables import Agent, IdempotencyKey, Job, now
from overmind_controlplane.refusals import Conflict, wrong


@dataclass(frozen=True)
class Known:
    """
    What was found.

    Attributes:
        agents: by project and id.
        granted: by scope and key.
    """

    agents: Mapping[tuple[str, str], Agent]
    granted: Mapping[tuple[str, str], IdempotencyKey]


def scope(job: Job, agent_id: str) -> str:
    """Within which no two claims have the same key."""
    return scope_in(job.project_id, agent_id)


def scope_in(project_id: str, agent_id: str) -> str:
    """As `scope`, of any job of that project."""
    return f"{project_id}:{agent_id}:claim"


def look_up(session: Session, said: Iterable[tuple[Job, Word]]) -> Known:
    """What the claims among *said* need to know; other words need nothing."""
    claims = [
        (job, word.agent_id, word.key)
        for job, word in said
        if word.status is Status.CLAIMED and word.agent_id is not None
    ]
    if not claims:
        return Known({}, {})
    named = select(Agent).where(Agent.id.in_({agent_id for _, agent_id, _ in claims}))
    agents = {(agent.project_id, agent.id): agent for agent in session.scalars(named)}
    keys = {(scope(job, agent_id), key) for job, agent_id, key in claims if key is not None}
    return Known(agents, idempotency.find_all(session, keys))


def claim(session: Session, caller: Caller, job: Job, word: Word, known: Known, *, lease_s: float) -> None:
    """
    Grant *job* to the agent that *word* names; again when that very claim was granted before.

    Raises:
        Conflict: `claim_taken`, `illegal_transition`; `superseded`: it was granted, and is over.
        Invalid: no agent is named, or none that is there; or the key is that of another claim.
    """
    agent = _claimer(caller, word, known)
    asked_in, asked = scope(job, agent.id), idempotency.digest(job.id)
    granted = idempotency.same(known.granted.get((asked_in, word.key)), asked) if word.key is not None else None
    if granted is not None:
        if (granted.attempt, agent.id) != (job.attempt, job.holder):
            raise superseded(job)
        return
    if word.key is None and sequence.is_same_again(session, job, word):
        return
    _must_be_free(session, job, agent.id)
    step(job.status, Status.CLAIMED)
    grant(session, job, agent.id, lease_s=lease_s if "lease" in agent.capabilities else None)
    move(session, job, word, caller)
    if word.key is not None:
        idempotency.keep(session, asked_in, word.key, asked, made=job.id, attempt=job.attempt)
    ring(session, agent_topic(agent.id))


def grant(session: Session, job: Job, holder: str, *, lease_s: float | None) -> None:
    """A new attempt of *job*, held by *holder*: for *lease_s* seconds, or without a lease for good."""
    iterations.forget(session, job)
    # Before anything is changed, or the question would have it written at once, and the rest later.
    lease_until = None if lease_s is None else timers.end_of_lease(session, lease_s)
    job.attempt += 1
    job.holder = holder
    job.is_leased = lease_s is not None
    job.lease_until = lease_until
    timers.unreserve(job)
    job.sequence = job.ends_now = 0
    job.declared = []
    job.progress = None
    job.started_at = now()


def _claimer(caller: Caller, word: Word, known: Known) -> Agent:
    if word.agent_id is None:
        raise wrong("a claim names the agent that claims", "query", "agent_id", kind="missing")
    if (agent := known.agents.get((caller.project_id, word.agent_id))) is None:
        raise agents.unknown(word.agent_id, "query", "agent_id")
    return agent


def _must_be_free(session: Session, job: Job, agent_id: str) -> None:
    if LIFECYCLE[job.status].is_held or job.assigned_agent_id not in (None, agent_id):
        raise Conflict("the job is taken, or meant for another agent", code="claim_taken")
    if job.status is Status.PENDING and not _is_free_for(session, job, agent_id):
        raise Conflict("the job is offered to another agent at this moment", code="claim_taken")
    if job.is_archived:
        raise Conflict("the job is archived", code="illegal_transition")


def _is_free_for(session: Session, job: Job, agent_id: str) -> bool:
    if job.reserved_for in (None, agent_id):
        return True
    free = select(Job.id).where(Job.id == job.id, timers.is_free_for(agent_id))
    return session.scalar(free) is not None
