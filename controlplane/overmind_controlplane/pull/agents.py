"""Agent-pull routes for agents: registration, and what they say of themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field, RootModel
from sqlalchemy import select

from overmind_agent import wire
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.pages import cut
from overmind_controlplane.answering.routing import (
    AgentCaller,
    AnyCaller,
    PageNumber,
    PageSize,
    ThePlane,
    answer,
    answer_json,
    answer_page,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull import shown_agents
from overmind_controlplane.record.tables import Agent, AgentEvent
from overmind_controlplane.refusals import NotFound, wrong

router = APIRouter(prefix="/api/v2", tags=["agent-pull: agents"])


class Modules(RootModel[Annotated[list[wire.ModuleVersion], Field(max_length=1000)]]):
    """The body of `PUT /agents/{id}/modules`: a bare list, which replaces the one before."""


@router.get("/capabilities", response_model=wire.Capabilities)
def capabilities(_caller: AnyCaller) -> Response:
    """What this server can do beyond the published calls."""
    return answer(wire.Capabilities(protocol="1", extensions=list(wire.EXTENSIONS)))


@router.post("/agents", response_model=wire.Agent, openapi_extra=takes(wire.Registration))
def register_agent(
    caller: AgentCaller, plane: ThePlane, body: Annotated[wire.Registration, Depends(json_body(wire.Registration))]
) -> Response:
    """Make an agent known; the server gives it its id, or the one that it had and that nobody else has."""
    with plane.database.write() as session:
        agent = agents.register(session, caller, body.agent_id)
        agents.begin(session, agent, body.instance)
        agents.inform(session, caller, agent, (body.agent_version, body.host_os), body.capabilities)
        agents.set_status(session, caller, agent, "Idle")
        return answer_json(shown_agents.agent(session, agent))


@router.get("/agents")
def list_agents(
    caller: AnyCaller,
    plane: ThePlane,
    agent_version: str | None = None,
    host_os: str | None = None,
    status_name: str | None = None,
    page: PageNumber = 1,
    size: PageSize = 10,
) -> Response:
    """The project's agents, oldest first."""
    wanted = {"agent_version": agent_version, "host_os": host_os, "status": status_name}
    rows = select(Agent).filter_by(
        project_id=caller.project_id, **{name: value for name, value in wanted.items() if value is not None}
    )
    with plane.database.read() as session:
        found, total = cut(session, rows.order_by(Agent.number), page, size)
        return answer_page([shown_agents.agent(session, agent) for agent in found], total, page, size)


@router.get("/agents/{agent_id}", response_model=wire.Agent)
def get_agent(agent_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One agent with its histories."""
    with plane.database.read() as session:
        return answer_json(shown_agents.agent(session, agents.get(session, caller, agent_id)))


@router.put("/agents/{agent_id}", response_model=wire.Agent, openapi_extra=takes(wire.NewAgent))
def update_agent_information(
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.NewAgent, Depends(json_body(wire.NewAgent))],
) -> Response:
    """What the agent is now."""
    with plane.database.write() as session:
        agent = agents.get(session, caller, agent_id)
        agents.begin(session, agent, body.instance)
        agents.inform(session, caller, agent, (body.agent_version, body.host_os), body.capabilities)
        return answer_json(shown_agents.agent(session, agent))


@router.put("/agents/{agent_id}/display_name", response_model=wire.Agent, openapi_extra=takes(wire.DisplayName))
def update_agent_display_name(
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.DisplayName, Depends(json_body(wire.DisplayName))],
) -> Response:
    """What people call it."""
    with plane.database.write() as session:
        agent = agents.get(session, caller, agent_id)
        agents.name(session, caller, agent, body.display_name)
        return answer_json(shown_agents.agent(session, agent))


@router.put("/agents/{agent_id}/modules", response_model=wire.Agent, openapi_extra=takes(Modules))
def update_agent_modules(
    agent_id: str, caller: AgentCaller, plane: ThePlane, body: Annotated[Modules, Depends(json_body(Modules))]
) -> Response:
    """What it can run; replaces what it said before."""
    with plane.database.write() as session:
        agent = agents.get(session, caller, agent_id)
        agents.equip(session, caller, agent, [(line.module_name, line.module_version) for line in body.root])
        return answer_json(shown_agents.agent(session, agent))


@router.put("/agents/{agent_id}/status", response_model=wire.Agent, openapi_extra=takes(wire.AgentStatusName))
def update_agent_status(
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.AgentStatusName, Depends(json_body(wire.AgentStatusName))],
) -> Response:
    """What it does now."""
    if body.name not in agents.STATUS_NAMES:
        raise wrong(f"an agent's status is one of {', '.join(agents.STATUS_NAMES)}", "body", "name", kind="enum")
    with plane.database.write() as session:
        agent = agents.get(session, caller, agent_id)
        agents.set_status(session, caller, agent, body.name)
        return answer_json(shown_agents.agent(session, agent))


@router.get("/agents/{agent_id}/display_name")
def get_agent_display_name(agent_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """The last name it was given."""
    return answer_json(shown_agents.entry(_last(plane, caller, agent_id, agents.DISPLAY_NAME)))


@router.get("/agents/{agent_id}/modules")
def get_agent_modules(agent_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """What it said last that it can run."""
    return answer_json(shown_agents.module_entry(_last(plane, caller, agent_id, agents.MODULES)))


@router.get("/agents/{agent_id}/status")
def get_agent_status(agent_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """What it did last."""
    return answer_json(shown_agents.entry(_last(plane, caller, agent_id, agents.STATUS)))


@router.get("/agents/{agent_id}/status/history")
def list_agent_status_history(
    agent_id: str, caller: AnyCaller, plane: ThePlane, page: PageNumber = 1, size: PageSize = 10
) -> Response:
    """What it did, oldest first."""
    with plane.database.read() as session:
        agent = agents.get(session, caller, agent_id)
        rows = select(AgentEvent).where(AgentEvent.agent_id == agent.id, AgentEvent.kind == agents.STATUS)
        found, total = cut(session, rows.order_by(AgentEvent.number), page, size)
        return answer_page([shown_agents.entry(event) for event in found], total, page, size)


def _last(plane: Plane, caller: Caller, agent_id: str, kind: str) -> AgentEvent:
    with plane.database.read() as session:
        entries = agents.history(session, agents.get(session, caller, agent_id).id, kind)
    if not entries:
        raise NotFound(f"the agent has no {kind.replace('_', ' ')} yet")
    return entries[-1]
