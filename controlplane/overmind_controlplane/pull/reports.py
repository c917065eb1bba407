"""The agent-pull route by which an agent says at once what has gathered about its jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Response
from pydantic import ValidationError

from overmind_agent import wire
from overmind_controlplane.answering import error_bodies
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.routing import AgentCaller, ThePlane, answer
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents
from overmind_controlplane.jobs.words import Word, status_named
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull.inline_blobs import enclosed
from overmind_controlplane.refusals import Refused, not_valid

router = APIRouter(prefix="/api/v2", tags=["agent-pull: agents"])


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
