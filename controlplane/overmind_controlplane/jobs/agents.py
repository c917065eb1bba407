"""The agents of a project: who registered, what it can run, and its histories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs.waiting import agent_topic, start_topic
from overmind_controlplane.record.database import ring
from overmind_controlplane.record.tables import Agent, AgentEvent, Job, new_id, now
from overmind_controlplane.refusals import Invalid, NotFound, wrong

INFORMATION: Final = "information"
DISPLAY_NAME: Final = "display_name"
MODULES: Final = "modules"
STATUS: Final = "status"

STATUS_NAMES: Final = (
    "Idle",
    "ClaimingJob",
    "ValidatingJob",
    "ExecutingJob",
    "UploadingJob",
    "ExecutionFailed",
    "ExecutionSuccess",
    "UpdatingAgent",
    "SuccessfulAgentUpdate",
    "FailedAgentUpdate",
    "UpdatingModule",
    "SuccessfulModuleUpdate",
    "FailedModuleUpdate",
    "Paused",
    "Unknown",
)

STATUS_KEPT_FOR: Final = timedelta(days=4)
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SEEN_EVERY: Final = timedelta(seconds=10)
# A job that is final keeps the name of its last holder, which holds it no more.
_HELD: Final = tuple(status for status, stage in LIFECYCLE.items() if stage.is_held)


def register(session: Session, caller: Caller, known_id: str | None = None) -> Agent:
    """
    A new agent, which has said nothing about itself yet.

    Args:
        known_id: what it was called before it was forgotten, as after a restore of an older backup. It gets that id
            again, and so the jobs that it holds, unless somebody else may have it.
    """
    if known_id is not None:
        known = session.scalar(select(Agent).where(Agent.id == known_id))
        may_have = _may_have(session, caller, known_id)
        if known is not None and known.project_id == caller.project_id and may_have:
            return known
        if known is not None or not may_have:
            known_id = None
    agent = Agent(
        id=known_id or new_id(),
        project_id=caller.project_id,
        created_by=caller.token_id,
        modules=[],
        capabilities=[],
    )
    session.add(agent)
    session.flush()
    return agent


def _may_have(session: Session, caller: Caller, agent_id: str) -> bool:
    """Whether *agent_id* is one of ours and holds no job that the caller may not see."""
    unseen = select(Job.id).where(
        Job.holder == agent_id, Job.project_id.not_in(caller.projects), Job.status.in_(_HELD)
    )
    return _ID.fullmatch(agent_id) is not None and session.scalar(unseen.limit(1)) is None


def get(session: Session, caller: Caller, agent_id: str) -> Agent:
    """
    The caller's agent of that id.

    Raises:
        NotFound: there is none.
    """
    if (agent := _find(session, caller, agent_id)) is None:
        raise NotFound("Agent not found")
    return agent


def must_be_there(session: Session, caller: Caller, agent_id: str, *loc: str) -> None:
    """
    Raises:
        Invalid: there is no agent of the id that stands at *loc* of a call.
    """
    if _find(session, caller, agent_id) is None:
        raise unknown(agent_id, *loc)


def unknown(agent_id: str, *loc: str) -> Invalid:
    """What is said to whoever names an agent that is not there."""
    return wrong(f"there is no agent {agent_id}; register it", *loc)


def _find(session: Session, caller: Caller, agent_id: str) -> Agent | None:
    return session.scalar(_OF_PROJECT, {"agent_id": agent_id, "project_id": caller.project_id})


_OF_PROJECT: Final = select(Agent).where(
    Agent.id == bindparam("agent_id"), Agent.project_id == bindparam("project_id")
)


def inform(
    session: Session, caller: Caller, agent: Agent, told: tuple[str, str], capabilities: Sequence[str]
) -> None:
    """What the agent is: *told* is its version and its host's operating system."""
    agent.agent_version, agent.host_os = told
    agent.capabilities = list(capabilities)
    agent.draining, agent.seen_at = False, now()
    _append(session, caller, agent, INFORMATION, {"agent_version": told[0], "host_os": told[1]})


def begin(session: Session, agent: Agent, instance: str | None) -> None:
    """The start *instance* of it has registered; an earlier one that still runs is told at once."""
    if instance != agent.instance:
        agent.instance, agent.not_accepting = instance, None
        ring(session, agent_topic(agent.id))
        ring(session, start_topic(agent.id))


def is_replaced(agent: Agent, instance: str | None) -> bool:
    """Whether another start of it has registered after *instance*: two run, on copies of one state folder."""
    return None not in (instance, agent.instance) and instance != agent.instance


def name(session: Session, caller: Caller, agent: Agent, display_name: str) -> None:
    """What people call it."""
    _append(session, caller, agent, DISPLAY_NAME, {"display_name": display_name})


def equip(session: Session, caller: Caller, agent: Agent, modules: Sequence[tuple[str, str]]) -> None:
    """What it can run: replaces what it said before; none at all means anything."""
    agent.modules = [list(module) for module in modules]
    _append(session, caller, agent, MODULES, agent.modules)


def set_status(session: Session, caller: Caller, agent: Agent, status: str) -> None:
    """What it does now, from `STATUS_NAMES`."""
    agent.status = status
    _append(session, caller, agent, STATUS, {"name": status})


def saw(agent: Agent, *, slots: int, draining: bool, not_accepting: str | None) -> None:
    """It sent a heartbeat. The time is written now and then only: each write costs a disk flush."""
    said = (slots, draining, not_accepting)
    if (agent.slots, agent.draining, agent.not_accepting) != said or now() - agent.seen_at > _SEEN_EVERY:
        agent.slots, agent.draining, agent.not_accepting = said
        agent.seen_at = now()


def history(session: Session, agent_id: str, kind: str) -> list[AgentEvent]:
    """All entries of one kind, oldest first."""
    entries = select(AgentEvent).where(AgentEvent.agent_id == agent_id, AgentEvent.kind == kind)
    return list(session.scalars(entries.order_by(AgentEvent.number)))


def prune(session: Session) -> None:
    """Forget what agents did long ago, but for the last thing that each of them did."""
    last = select(func.max(AgentEvent.number)).where(AgentEvent.kind == STATUS).group_by(AgentEvent.agent_id)
    old = AgentEvent.created < now() - STATUS_KEPT_FOR
    session.execute(delete(AgentEvent).where(AgentEvent.kind == STATUS, old, AgentEvent.number.not_in(last)))


def _append(session: Session, caller: Caller, agent: Agent, kind: str, value: Any) -> None:
    agent.seen_at = now()
    session.add(AgentEvent(id=new_id(), agent_id=agent.id, kind=kind, value=value, created_by=caller.token_id))
    session.flush()
