"""
Overmind Lab's jobs: make, list, read, write, delete.

What `status` may be written to, where the published API says nothing:

| written | job waits | its submitter runs it | an agent runs it | it is final |
|---|---|---|---|---|
| `pending` | stays | goes back | 409 | 409 |
| `running` | taken by the submitter; no agent gets it | stays | stays | 409 |
| `completed` | done by the submitter | done | 409 | 409 |
| `failed` | failed | failed | 409 | 409 |
| `cancelled` | canceled | canceled | canceled | 409 |

The word that a job has already changes nothing and is always 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.answering.routing import AnyCaller, Submitter, ThePlane, answer_json
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.dialects import WRITTEN, Dialect, function_of, statuses, word
from overmind_controlplane.jobs import chat_models
from overmind_controlplane.jobs.words import NewJob
from overmind_controlplane.lab import records as lab_records
from overmind_controlplane.lab.bodies import Told, must_be_own_project, path_id, takes, unknown
from overmind_controlplane.lab.checks import check, check_filters
from overmind_controlplane.lab.fields import JOB_FIELDS, JOB_FILTERS
from overmind_controlplane.lab.inputs import input_model
from overmind_controlplane.lab.listing import Columns, compared, contains, described, ordered, page
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import Job, now
from overmind_controlplane.refusals import NotFound, WrongFields
from overmind_controlplane.storage import files

router = APIRouter(prefix="/api/jobs", tags=["Overmind Lab: jobs"])

ORDER: Final[Columns] = {
    "created_at": Job.number,
    "updated_at": Job.updated,
    "baseline_score": Job.baseline_score,
    "best_score": Job.best_score,
    "improvement": Job.improvement,
    "job_type": Job.job_type,
    "num_iterations": Job.num_iterations,
    "prompt_slug": Job.prompt_slug,
    "analyzer_model": Job.analyzer_model,
    "status": Job.status,
}


@router.post("/", status_code=201, openapi_extra=takes(JOB_FIELDS))
def create_job(caller: Submitter, plane: ThePlane, told: Told) -> Response:
    """
    A new job. Its parameters are in `result.parameters`; `items_file` in them names a model to work on,
    `dataset_id` a dataset.
    """
    fields = check(JOB_FIELDS, told, is_partial=True)
    must_be_own_project(caller, fields.pop("project", None))
    said = fields.pop("status", "pending")
    function_name = function_of(fields.pop("job_type", "inference"))
    parameters, fields["result"] = _split(fields.get("result"))
    revision = files.write_json(plane.blobs, caller.project_id, "parameters.json", parameters)
    with plane.database.write() as session:
        new = NewJob(
            function_name=function_name,
            revision=revision,
            model_id=_input(session, caller, parameters),
            models=chat_models.named(function_name, parameters),
            fields=fields,
        )
        job = plane.board.create(session, caller, new)
        _set_status(session, plane, caller, job, said)
        return answer_json(lab_records.detail(session, plane.blobs, job), 201)


@router.get("/", openapi_extra=described(JOB_FILTERS, ORDER))
def list_jobs(request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's jobs, newest first, a page at a time."""
    filters = check_filters(JOB_FILTERS, request.query_params)
    rows = select(Job).where(
        Job.project_id == caller.project_id, Job.is_deleted.is_(False), Job.job_type.is_not(None)
    )
    for name, value in filters.items():
        rows = rows.where(_filter(caller, name, value))
    rows = ordered(rows, request.query_params.get("ordering"), ORDER, Job.number)
    with plane.database.read() as session:
        found, listing = page(session, request, rows)
        return answer_json(listing | {"results": [lab_records.row(job) for job in found]})


@router.get("/{job_id}/")
def get_job(job_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One job with its iterations."""
    with plane.database.read() as session:
        return answer_json(lab_records.detail(session, plane.blobs, find_job(session, plane, caller, job_id)))


@router.patch("/{job_id}/", openapi_extra=takes(JOB_FIELDS))
@router.put("/{job_id}/", openapi_extra=takes(JOB_FIELDS))
def update_job(job_id: str, caller: AnyCaller, plane: ThePlane, told: Told) -> Response:
    """Write some fields; all or none. Parameters can be replaced while the job waits and are never lost."""
    fields = check(JOB_FIELDS, told, is_partial=True)
    must_be_own_project(caller, fields.pop("project", None))
    with plane.database.write() as session:
        job = find_job(session, plane, caller, job_id)
        if fields.get("target_agent_id") == lab_records.no_target_agent(caller.project_id):
            fields["target_agent_id"] = None
        said = fields.pop("status", None)
        _must_keep_type(job, fields.pop("job_type", job.job_type))
        if "result" in fields:
            fields["result"] = _rewrite(session, plane, caller, job, fields["result"])
        for column, value in fields.items():
            setattr(job, column, value)
        job.updated = now()
        _set_status(session, plane, caller, job, said)
        session.flush()
        return answer_json(lab_records.detail(session, plane.blobs, job))


@router.delete("/{job_id}/", status_code=204)
def delete_job(job_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """Take a job out of sight; if an agent runs it, it is stopped."""
    with plane.database.write() as session:
        plane.board.delete(session, caller, find_job(session, plane, caller, job_id))
    return Response(status_code=204)


def find_job(session: Session, plane: Plane, caller: Caller, job_id: str) -> Job:
    """
    The caller's job of that id, if it is one that this dialect can show.

    Raises:
        NotFound: there is none.
    """
    job = plane.board.get(session, caller, path_id(job_id))
    if job.job_type is None:
        raise NotFound("Not found.")
    return job


def named_job(session: Session, plane: Plane, caller: Caller, job_id: str) -> Job:
    """
    The job that a field names.

    Raises:
        WrongFields: one that is not there is a wrong field, not a missing page.
    """
    try:
        return find_job(session, plane, caller, job_id)
    except NotFound:
        raise unknown("job", job_id) from None


def _must_keep_type(job: Job, job_type: str | None) -> None:
    if job_type != job.job_type:
        raise WrongFields({"job_type": ["The type of a job does not change; make a new job."]})


def _split(result: Any) -> tuple[Any, Any]:
    """The parameters in a `result`, and the rest of it."""
    if not isinstance(result, Mapping):
        return {}, result
    return result.get("parameters", {}), {name: value for name, value in result.items() if name != "parameters"}


def _input(session: Session, caller: Caller, parameters: Any) -> str | None:
    try:
        return input_model(session, caller, parameters)
    except NotFound as error:
        raise WrongFields({"result": [error.detail]}) from None


def _rewrite(session: Session, plane: Plane, caller: Caller, job: Job, result: Any) -> Any:
    """Take the parameters out of a `result` that is written: kept if the job waits, else those it has stay."""
    parameters, rest = _split(result)
    if job.status is Status.PENDING and isinstance(result, Mapping) and "parameters" in result:
        present = lab_records.parameters(session, plane.blobs, job)
        if parameters != present:
            model_id = _input(session, caller, parameters)
            revision = files.write_json(plane.blobs, caller.project_id, "parameters.json", parameters)
            plane.board.revise(session, caller, job, revision, chat_models.named(job.function_name, parameters))
            if model_id != _input_then(session, caller, present):
                job.model_id, job.has_input = model_id or job.model_id, model_id is not None
    return rest


def _input_then(session: Session, caller: Caller, parameters: Any) -> str | None:
    """The input that the parameters named before; what they named may be gone by now."""
    try:
        return input_model(session, caller, parameters)
    except NotFound:
        return None


def _set_status(session: Session, plane: Plane, caller: Caller, job: Job, said: str | None) -> None:
    if said is None or said == word(job.status, Dialect.LAB):
        return
    to = WRITTEN[said]
    if to is not Status.CANCELED:
        plane.board.drive(session, caller, job, to)
        return
    if not job.is_driven:
        caller.must_be(Role.SUBMIT)
    plane.board.cancel(session, caller, job)


def _filter(caller: Caller, name: str, value: Any) -> ColumnElement[bool]:
    if name == "agent" and value == lab_records.no_target_agent(caller.project_id):
        return Job.target_agent_id.is_(None)
    if name == "status":
        return Job.status.in_(statuses(value, Dialect.LAB))
    if name == "search":
        return contains(value, Job.id, Job.prompt_slug, Job.analyzer_model, Job.job_type)
    return compared(name, getattr(Job, JOB_FILTERS[name].column), value)
