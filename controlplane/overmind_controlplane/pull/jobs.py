"""Agent-pull routes for jobs: make, read, list, claim, report, cancel, assign, archive, log."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import StringConstraints
from sqlalchemy import Select, select

from overmind_agent import wire
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.pages import cut
from overmind_controlplane.answering.routing import (
    MINIMAL,
    AnyCaller,
    Fence,
    IdempotencyKey,
    PageNumber,
    PageSize,
    Sequence,
    Submitter,
    ThePlane,
    answer,
    answer_page,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import chat_models
from overmind_controlplane.jobs.words import NewJob, Word, status_named
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import wrong
from overmind_controlplane.shown.jobs import show_job, show_jobs
from overmind_controlplane.storage import files

router = APIRouter(prefix="/api/v2", tags=["agent-pull: jobs"])


MAX_LABELS: Final = 16

JobLabel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""What a host has to have, such as `gpu`: an agent says `label:gpu` among its capabilities."""

Signature = Annotated[
    str | None,
    Header(
        alias="Overmind-Signature",
        pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$",
        max_length=wire.MAX_SIGNATURE_CHARS,
    ),
]
"""A JSON Web Signature in its compact form."""

Revision = Annotated[wire.FileRevision, Depends(json_body(wire.FileRevision))]


class AssignedAgent(wire.Asked):
    """The body of `PUT /jobs/{id}/assigned_agent`."""

    agent_id: wire.Id


class Reason(wire.Asked):
    """The optional body of an archive or a restore."""

    reason: Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")] | None = None


GivenReason = Annotated[Reason, Depends(json_body(Reason, empty=b"{}"))]


@router.post("/models/{model_id}/jobs", response_model=wire.Job, openapi_extra=takes(wire.FileRevision))
def create_job(
    model_id: str,
    caller: Submitter,
    plane: ThePlane,
    body: Revision,
    function_name: Annotated[str, Query(min_length=1, max_length=255)],
    function_version: Annotated[str | None, Query(max_length=255)] = None,
    assigned_agent_id: str | None = None,
    timeout_s: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
    max_attempts: Annotated[int, Query(ge=1, le=100)] = 3,
    priority: Annotated[int, Query(ge=-1000, le=1000)] = 0,
    labels: Annotated[tuple[JobLabel, ...], Query(max_length=MAX_LABELS)] = (),
    signature: Signature = None,
) -> Response:
    """
    A new job on a model; the body describes its parameters file. From `timeout_s` on the query is ours.

    So is the signature, which is kept and handed on.
    """
    revision = files.check(plane.blobs, caller.project_id, body)
    new = NewJob(
        function_name=function_name,
        revision=revision,
        model_id=model_id,
        function_version=function_version,
        assigned_agent_id=assigned_agent_id,
        timeout_s=timeout_s,
        max_attempts=max_attempts,
        priority=priority,
        labels=frozenset(labels),
        signature=signature,
        models=chat_models.named_in(plane.blobs, caller.project_id, function_name, revision),
    )
    with plane.database.write() as session:
        made = plane.board.create(session, caller, new)
    # After the commit, and cheaply: an agent that waits for the job is not kept waiting for this answer.
    with plane.database.glance() as session:
        return answer(show_job(session, made))


@router.get("/models/{model_id}/jobs", response_model=wire.PageJob)
def list_model_jobs(
    model_id: str,
    caller: AnyCaller,
    plane: ThePlane,
    status_name: str | None = None,
    archive_status: str = "active",
    sort: str | None = None,
    page: PageNumber = 1,
    size: PageSize = 10,
) -> Response:
    """A model's jobs, oldest first unless `sort` starts with `-`."""
    with plane.database.read() as session:
        files.get_model(session, caller, model_id)
        rows = _listed(caller, model_id, status_name, archive_status, sort)
        found, total = cut(session, rows, page, size)
        return answer_page(list(show_jobs(session, found)), total, page, size)


@router.get("/jobs", response_model=wire.PageJob)
def list_jobs(
    caller: AnyCaller,
    plane: ThePlane,
    model_id: str | None = None,
    status_name: str | None = None,
    archive_status: str = "active",
    sort: str | None = None,
    page: PageNumber = 1,
    size: PageSize = 10,
) -> Response:
    """The project's jobs, oldest first unless `sort` starts with `-`."""
    with plane.database.read() as session:
        rows = _listed(caller, model_id, status_name, archive_status, sort)
        found, total = cut(session, rows, page, size)
        return answer_page(list(show_jobs(session, found)), total, page, size)


@router.get("/jobs/{job_id}", response_model=wire.Job)
def get_job(job_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One job."""
    with plane.database.read() as session:
        return answer(show_job(session, plane.board.get(session, caller, job_id)))


@router.put("/jobs/{job_id}", response_model=wire.Job, openapi_extra=takes(wire.FileRevision))
def update_job(
    job_id: str, caller: Submitter, plane: ThePlane, body: Revision, signature: Signature = None
) -> Response:
    """Other parameters for a job that waits; it is signed anew, or not signed any more."""
    with plane.database.read() as session:
        function_name = plane.board.get(session, caller, job_id).function_name
    revision = files.check(plane.blobs, caller.project_id, body)
    models = chat_models.named_in(plane.blobs, caller.project_id, function_name, revision)
    with plane.database.write() as session:
        job = plane.board.get(session, caller, job_id)
        plane.board.revise(session, caller, job, revision, models, signature)
        return answer(show_job(session, job))


@router.put(
    "/jobs/{job_id}/status",
    response_model=wire.Job | wire.Noted,
    openapi_extra=takes(wire.StatusBody, optional=True),
)
async def update_job_status(
    job_id: str,
    caller: AnyCaller,
    plane: ThePlane,
    body: Annotated[wire.StatusBody, Depends(json_body(wire.StatusBody, empty=b"{}"))],
    status_name: str,
    agent_id: str | None = None,
    attempt: Fence = None,
    sequence: Sequence = None,
    key: IdempotencyKey = None,
    prefer: Annotated[str | None, Header()] = None,
) -> Response:
    """Claim a job, say how it is, give it back, or cancel it: `docs/protocol.md`."""
    word = Word(
        status=status_named(status_name, "query", "status_name"),
        agent_id=agent_id,
        attempt=attempt,
        sequence=sequence,
        key=key,
        message=body.message,
        detail=body.detail.model_dump(exclude_none=True) if body.detail else {},
    )
    return answer(await plane.reports.say(caller, job_id, word, is_terse=prefer == MINIMAL))


@router.put("/jobs/{job_id}/assigned_agent", response_model=wire.Job, openapi_extra=takes(AssignedAgent))
def update_job_assigned_agent(
    job_id: str,
    caller: Submitter,
    plane: ThePlane,
    body: Annotated[AssignedAgent, Depends(json_body(AssignedAgent))],
) -> Response:
    """Say which agent a waiting job is meant for."""
    return _assign(plane, caller, job_id, body.agent_id)


@router.delete("/jobs/{job_id}/assigned_agent", response_model=wire.Job)
def remove_job_assigned_agent(job_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """Let any agent take a waiting job."""
    return _assign(plane, caller, job_id, None)


def _assign(plane: Plane, caller: Caller, job_id: str, agent_id: str | None) -> Response:
    with plane.database.write() as session:
        job = plane.board.get(session, caller, job_id)
        plane.board.assign(session, caller, job, agent_id)
        return answer(show_job(session, job))


@router.delete("/jobs/{job_id}", response_model=wire.Job, openapi_extra=takes(Reason, optional=True))
def archive_job(job_id: str, caller: Submitter, plane: ThePlane, body: GivenReason) -> Response:
    """Put a job away."""
    return _archive(plane, caller, job_id, body.reason, is_archived=True)


# The colon belongs to the path, and `{job_id}` alone would take it for a part of the id.
@router.post("/jobs/{job_id}:restore", response_model=wire.Job, openapi_extra=takes(Reason, optional=True))
def restore_job(job_id: str, caller: Submitter, plane: ThePlane, body: GivenReason) -> Response:
    """Take a job out again."""
    return _archive(plane, caller, job_id, body.reason, is_archived=False)


def _archive(plane: Plane, caller: Caller, job_id: str, reason: str | None, *, is_archived: bool) -> Response:
    with plane.database.write() as session:
        job = plane.board.get(session, caller, job_id)
        plane.board.archive(session, caller, job, reason, is_archived=is_archived)
        return answer(show_job(session, job))


def _listed(
    caller: Caller, model_id: str | None, status_name: str | None, archive_status: str, sort: str | None
) -> Select[Job]:
    archived = {"active": (False,), "archived": (True,), "all": (False, True)}.get(archive_status)
    if archived is None:
        raise wrong("archive_status is active, archived or all", "query", "archive_status", kind="enum")
    rows = select(Job).where(
        Job.project_id.in_(caller.projects), Job.is_deleted.is_(False), Job.is_archived.in_(archived)
    )
    if model_id is not None:
        rows = rows.where(Job.model_id == model_id)
    if status_name is not None:
        rows = rows.where(Job.status == status_named(status_name, "query", "status_name"))
    return rows.order_by(Job.number.desc() if (sort or "").startswith("-") else Job.number)
