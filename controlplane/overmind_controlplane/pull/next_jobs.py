"""Agent-pull routes by which an agent gets its next job: listed, offered or granted."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from overmind_agent import wire
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
    answer_page,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, offers
from overmind_controlplane.jobs.asking import Ask
from overmind_controlplane.jobs.waiting import project_topic, start_topic
from overmind_controlplane.plane import Plane
from overmind_controlplane.record import audit
from overmind_controlplane.refusals import wrong
from overmind_controlplane.shown.jobs import show_jobs

JobTypeName = Annotated[str, Field(max_length=255)]

router = APIRouter(prefix="/api/v2", tags=["agent-pull: agents"])


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
