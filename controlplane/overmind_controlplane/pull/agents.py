"""Agent-pull routes for agents: registration, what they say of themselves, their next job, their heartbeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, RootModel, ValidationError
from sqlalchemy import select

from overmind_agent import wire
from overmind_agent.jobs import Directive
from overmind_controlplane.answering import error_bodies
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.pages import cut
from overmind_controlplane.answering.routing import (
    AgentCaller,
    AnyCaller,
    IdempotencyKey,
    PageNumber,
    PageSize,
    ThePlane,
    answer,
    answer_json,
    answer_page,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, heartbeats, offers
from overmind_controlplane.jobs.asking import Ask
from overmind_controlplane.jobs.waiting import agent_topic, project_topic, start_topic
from overmind_controlplane.jobs.words import Word, status_named
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull import shown_agents
from overmind_controlplane.pull.inline_blobs import enclosed
from overmind_controlplane.record import audit
from overmind_controlplane.record.tables import Agent, AgentEvent, now
from overmind_controlplane.refusals import NotFound, Refused, not_valid, wrong
from overmind_controlplane.shown.jobs import show_jobs

JobTypeName = Annotated[str, Field(max_length=255)]

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


@router.get("/agents/{agent_id}/available_jobs", response_model=wire.PageJob)
def list_available_jobs(
    agent_id: str, caller: AnyCaller, plane: ThePlane, page: PageNumber = 1, size: PageSize = 10
) -> Response:
    """The jobs that it may claim, in the order in which they are offered."""
    with plane.database.read() as session:
        rows = offers.available(session, agents.get(session, caller, agent_id), caller.projects)
        found, total = cut(session, rows, page, size)
        return answer_page(list(show_jobs(session, found)), total, page, size)


@router.get("/agents/{agent_id}/job", response_model=wire.Job | wire.NoJobResponse)
async def get_job_for_agent(
    request: Request,
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    wait_s: Annotated[float, Query(ge=0, le=30)] = 0,
    job_type: Annotated[list[JobTypeName] | None, Query(max_length=100)] = None,
    instance: wire.Id | None = None,
) -> Response:
    """
    A job for it, as soon as there is one: an offer, kept for it for a moment. Claims nothing.

    With `job_type`, which may be repeated, only a job of one of these types. An `instance` that was replaced is
    told so.
    """
    wanted = frozenset(job_type) if job_type else None
    return await _asked(request, plane, Ask(caller, agent_id, wanted, instance), wait_s)


@router.post(
    "/agents/{agent_id}/claims",
    response_model=wire.Job | wire.NoJobResponse,
    openapi_extra=takes(wire.NextClaim, optional=True),
)
async def claim_next_job(
    request: Request,
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.NextClaim, Depends(json_body(wire.NextClaim, empty=b"{}"))],
    key: IdempotencyKey = None,
) -> Response:
    """
    A job for it, as soon as there is one, granted as by a claim with this `Idempotency-Key`, which must be given.

    The same key gives the same grant, until the agent has said a word about it.
    """
    if key is None:
        await run_sync(_must_be_known, plane, caller, agent_id)
        raise wrong("a claim that may have to be repeated has a key", "header", "Idempotency-Key", kind="missing")
    wanted = None if body.job_types is None else frozenset(body.job_types)
    call = audit.present_call()
    return await _asked(
        request, plane, Ask(caller, agent_id, wanted, body.instance, key, body.message, call), body.wait_s
    )


def _must_be_known(plane: Plane, caller: Caller, agent_id: str) -> None:
    with plane.database.glance() as session:
        agents.get(session, caller, agent_id)


async def _asked(request: Request, plane: Plane, ask: Ask, wait_s: float) -> Response:
    async def ask_again() -> wire.Job | wire.NoJobResponse | None:
        if await request.is_disconnected():
            return nothing  # nobody would hear of the job, and it would be kept from the others
        return await plane.asking.ask(ask)

    nothing = wire.NoJobResponse(message="no job")
    topics = (*map(project_topic, ask.caller.projects), start_topic(ask.agent_id))
    found = await plane.waiting.until(ask_again, *topics, wait_s=wait_s)
    return answer(found or nothing)


@router.post(
    "/agents/{agent_id}/heartbeat", response_model=wire.HeartbeatAnswer, openapi_extra=takes(wire.Heartbeat)
)
async def heartbeat(
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.Heartbeat, Depends(json_body(wire.Heartbeat))],
) -> Response:
    """Renew its leases; what is wanted of each of its jobs, at once when there is news."""
    at_arrival = await run_sync(partial(_arrive, plane, caller, agent_id, body))
    known = at_arrival | {line.job_id for line in body.jobs}

    told: wire.HeartbeatAnswer

    async def news() -> bool | None:
        nonlocal told
        told, held = await run_sync(partial(_orders, plane, caller, agent_id, body))
        is_news = held - known or any(order.directive != Directive.CONTINUE for order in told.jobs)
        return True if is_news or told.replaced else None

    await plane.waiting.until(news, agent_topic(agent_id), wait_s=body.wait_s)  # which looks once more at its end
    return answer(told)


@router.post("/agents/{agent_id}/reports", response_model=wire.ReportsAnswer, openapi_extra=takes(wire.Reports))
async def report_together(
    agent_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.AnyReports, Depends(json_body(wire.AnyReports))],
) -> Response:
    """Several status updates, in order; each is carried out or refused as it would be alone."""
    # What comes with them is stored before the first is carried out, so that they keep their order.
    words = await run_sync(_words, plane, caller, agent_id, body.reports)

    async def say(what: tuple[str, Word] | Exception) -> wire.Job | wire.Noted:
        if isinstance(what, Exception):
            raise what
        return await plane.reports.say(caller, *what, is_terse=True)

    heard = await asyncio.gather(*map(say, words), return_exceptions=True)
    return answer(wire.ReportsAnswer(reports=[_heard(one) for one in heard]))


def _words(
    plane: Plane, caller: Caller, agent_id: str, reports: Sequence[Any]
) -> list[tuple[str, Word] | Exception]:
    """What each of *reports* says, and of which job; or why it cannot be carried out."""
    with plane.database.glance() as session:
        agents.get(session, caller, agent_id)
    found: list[tuple[str, Word] | Exception] = []
    for number, told in enumerate(reports):
        try:
            job_id, word, artifacts = _word(agent_id, number, told)
            found.append((job_id, replace(word, artifacts=enclosed(plane, caller, job_id, artifacts))))
        except Refused as error:
            found.append(error)
    return found


def _word(agent_id: str, number: int, told: Any) -> tuple[str, Word, Sequence[wire.KeyedArtifact]]:
    """
    The job that *told*, at place *number* of a call, is about, what it says, and what comes with it.

    Raises:
        Invalid: it is no report.
    """
    here = ("body", "reports", number)
    try:
        line = wire.Report.model_validate_json(json.dumps(told))  # strict, and still times are texts in JSON
    except ValidationError as error:
        raise not_valid(error, *here) from error
    word = Word(
        status=status_named(line.status_name, *here, "status_name"),
        agent_id=agent_id,
        attempt=line.attempt,
        sequence=line.sequence,
        message=line.message,
        detail=line.detail.model_dump(exclude_none=True) if line.detail else {},
    )
    return line.job_id, word, line.artifacts or ()


def _heard(what: wire.Job | wire.Noted | BaseException) -> wire.Heard:
    """
    Raises:
        Exception: it is not a refusal of that one report, so nobody can say what became of the others.
    """
    if not isinstance(what, BaseException):
        return wire.Heard(http_status=200)
    if not isinstance(what, Refused) or what.http_status >= 500:
        raise what
    return wire.Heard(http_status=what.http_status, error=error_bodies.body("/api/v2/", what))


def _arrive(plane: Plane, caller: Caller, agent_id: str, body: wire.Heartbeat) -> frozenset[str]:
    with plane.database.note() as session:
        return heartbeats.arrive(session, caller, plane.board, agents.get(session, caller, agent_id), body)


def _orders(
    plane: Plane, caller: Caller, agent_id: str, body: wire.Heartbeat
) -> tuple[wire.HeartbeatAnswer, frozenset[str]]:
    with plane.database.read() as session:
        agent = agents.get(session, caller, agent_id)
        told = wire.HeartbeatAnswer(
            jobs=heartbeats.orders(session, caller, plane.board, agent, body.jobs),
            replaced=agents.is_replaced(agent, body.instance),
            server_time=now(),
        )
        return told, heartbeats.held(session, caller, agent)


def _last(plane: Plane, caller: Caller, agent_id: str, kind: str) -> AgentEvent:
    with plane.database.read() as session:
        entries = agents.history(session, agents.get(session, caller, agent_id).id, kind)
    if not entries:
        raise NotFound(f"the agent has no {kind.replace('_', ' ')} yet")
    return entries[-1]
