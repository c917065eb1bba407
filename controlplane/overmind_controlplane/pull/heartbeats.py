"""The agent-pull route by which an agent keeps its jobs, and hears what is wanted of them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Response

from overmind_agent import wire
from overmind_agent.jobs import Directive
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.routing import AgentCaller, ThePlane, answer
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents, heartbeats
from overmind_controlplane.jobs.waiting import agent_topic
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import now

router = APIRouter(prefix="/api/v2", tags=["agent-pull: agents"])


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
