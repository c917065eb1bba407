"""Agents with their histories, as the agent-pull dialect shows them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from overmind_controlplane.jobs import agents as registry
from overmind_controlplane.record.derived_ids import derived_id
from overmind_controlplane.record.tables import Agent, AgentEvent


def agent(session: Session, row: Agent) -> dict[str, object]:
    """An agent with its histories, oldest entry first."""
    return {
        "id": row.id,
        "created": row.created.isoformat(),
        "created_by_id": row.created_by,
        "capabilities": row.capabilities,
        "draining": row.draining,
        "not_accepting": row.not_accepting,
        "information_history": [information(event, row) for event in _of(session, row, registry.INFORMATION)],
        "display_name_history": [entry(event) for event in _of(session, row, registry.DISPLAY_NAME)],
        "status_history": [entry(event) for event in _of(session, row, registry.STATUS)],
        "modules_history": [module_entry(event) for event in _of(session, row, registry.MODULES)],
    }


def entry(event: AgentEvent) -> dict[str, object]:
    """One entry of an agent's status or name history."""
    return {
        "id": event.id,
        "created": event.created.isoformat(),
        "agent_id": event.agent_id,
        "created_by_id": event.created_by,
        **event.value,
    }


def information(event: AgentEvent, row: Agent) -> dict[str, object]:
    """One entry of an agent's information history."""
    return entry(event) | {"tenant_id": row.project_id}


def module_entry(event: AgentEvent) -> dict[str, object]:
    """One entry of an agent's modules history."""
    versions = [
        {
            "id": derived_id(event.id, name, version),
            "created": event.created.isoformat(),
            "agent_modules_id": event.id,
            "module_version_id": derived_id("module", name, version),
            "module_name": name,
            "module_version": version,
            "created_by_id": event.created_by,
        }
        for name, version in event.value
    ]
    shared = {"id": event.id, "created": event.created.isoformat(), "agent_id": event.agent_id}
    return shared | {"created_by_id": event.created_by, "module_versions": versions}


def _of(session: Session, row: Agent, kind: str) -> list[AgentEvent]:
    return registry.history(session, row.id, kind)
