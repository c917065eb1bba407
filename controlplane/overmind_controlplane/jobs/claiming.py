"""What claims look up before they are decided: who claims, and what was granted; for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.tables import Agent, IdempotencyKey, Job


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
