"""
The prompt-optimisation dialect: jobs of type `prompt_tuning` under the project that they belong to.

Errors are `{"message": …}` with 400, 401, 403, 404 or 500, as `error_bodies` has it.

Ours, beyond the published calls: a request may carry `parameters`, further parameters of the job (a budget, a
prompt); and where `prompt_template_version_id` names an uploaded file, its content is the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.answering.pages import count_pages, cut
from overmind_controlplane.answering.routing import AnyCaller, Submitter, ThePlane, answer_json
from overmind_controlplane.caller import Caller
from overmind_controlplane.dialects import (
    OPTIMISATION_IDS,
    OPTIMISATION_ROOT,
    OPTIMISATION_SWITCHES,
    OPTIMISATION_TYPE,
    OTHER_SPELLINGS,
    WRITTEN,
    Dialect,
    function_of,
    statuses,
    word,
)
from overmind_controlplane.jobs import chat_models
from overmind_controlplane.jobs.words import NewJob
from overmind_controlplane.lab import records as lab_records
from overmind_controlplane.lab.bodies import Told, path_id, takes
from overmind_controlplane.lab.checks import (
    A_BOOLEAN,
    A_TOLD_INTEGER,
    AN_ID,
    ANYTHING,
    Field,
    Fields,
    check,
    check_filters,
    choice,
    parameters,
    text,
)
from overmind_controlplane.lab.inputs import input_model
from overmind_controlplane.optimisation import records as optimisation_records
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import NotFound, Refused
from overmind_controlplane.storage import files
from overmind_executors import strict_json

router = APIRouter(prefix=OPTIMISATION_ROOT + "{project_id}/prompt-optimization-jobs", tags=["prompt optimisation"])

PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
MAX_PROMPT_BYTES: Final = 1 << 20

FIELDS: Final[Fields] = {
    **{name: Field("", AN_ID, is_required=True) for name in OPTIMISATION_IDS},
    "user_instructions": Field("", text(100_000), is_nullable=True),
    **{name: Field("", A_BOOLEAN) for name in OPTIMISATION_SWITCHES},
    "parameters": Field("", ANYTHING),
}
FILTERS: Final[Fields] = {
    "page": Field("", A_TOLD_INTEGER),
    "page_size": Field("", A_TOLD_INTEGER),
    "status": Field("", choice(*WRITTEN, *OTHER_SPELLINGS)),
}


@router.post("", status_code=202, openapi_extra=takes(FIELDS, is_partial=False))
def create_optimization(project_id: str, caller: Submitter, plane: ThePlane, told: Told) -> Response:
    """A new job over a dataset; it waits for an agent."""
    _must_be_own(caller, project_id)
    wanted = _parameters(told)
    with plane.database.read() as session:
        prompt = _prompt(session, plane, caller, wanted["prompt_template_version_id"])
    if prompt is not None:
        wanted.setdefault("prompt", prompt)
    revision = files.write_json(plane.blobs, caller.project_id, "parameters.json", wanted)
    with plane.database.write() as session:
        new = NewJob(
            function_name=function_of(OPTIMISATION_TYPE),
            revision=revision,
            model_id=input_model(session, caller, {"dataset_id": wanted["dataset_id"]}),
            models=chat_models.named(function_of(OPTIMISATION_TYPE), wanted),
            fields={"data_source": "dataset"},
        )
        job = plane.board.create(session, caller, new)
        return answer_json(_receipt(job), 202)


@router.get("", openapi_extra={"parameters": parameters(FILTERS)})
def list_optimizations(request: Request, project_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's jobs of this kind, newest first, whichever dialect they were made in."""
    _must_be_own(caller, project_id)
    told = check_filters(FILTERS, request.query_params)
    page, size = told.get("page", 1), told.get("page_size", PAGE_SIZE)
    if not (1 <= page < 1 << 31 and 1 <= size <= MAX_PAGE_SIZE):
        raise Refused(f"page counts from 1, and page_size is 1 to {MAX_PAGE_SIZE}")
    rows = select(Job).where(
        Job.project_id == caller.project_id, Job.is_deleted.is_(False), Job.job_type == OPTIMISATION_TYPE
    )
    if (said := told.get("status")) is not None:
        rows = rows.where(Job.status.in_(statuses(OTHER_SPELLINGS.get(said, said), Dialect.OPTIMISATION)))
    with plane.database.read() as session:
        found, total = cut(session, rows.order_by(Job.number.desc()), page, size)
        data = [optimisation_records.summary(session, plane.blobs, job) for job in found]
    pages = count_pages(total, size)
    around = {"page": page, "page_size": size, "total": total, "total_pages": pages, "has_next": page < pages}
    return answer_json({"data": data, "pagination": around})


@router.get("/{job_id}")
def get_optimization(project_id: str, job_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One job: how far it is, and what came of it."""
    with plane.database.read() as session:
        job = _find(session, plane, caller, project_id, job_id)
        return answer_json(optimisation_records.document(session, plane.blobs, job))


@router.post("/{job_id}/cancel")
def cancel_optimization(project_id: str, job_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """End a job that waits or runs; safe to repeat."""
    with plane.database.write() as session:
        job = _find(session, plane, caller, project_id, job_id)
        if LIFECYCLE[job.status].is_final and job.status is not Status.CANCELED:
            raise Refused(f"only a pending or running job can be cancelled (this one is {_receipt(job)['status']})")
        plane.board.cancel(session, caller, job)
        return answer_json(_receipt(job))


def _receipt(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "status": word(job.status, Dialect.OPTIMISATION),
        "created_at": lab_records.moment(job.created),
    }


def _must_be_own(caller: Caller, project_id: str) -> None:
    if path_id(project_id) != caller.project_id:
        raise NotFound(f"there is no project {project_id[:64]}")


def _find(session: Session, plane: Plane, caller: Caller, project_id: str, job_id: str) -> Job:
    _must_be_own(caller, project_id)
    job = plane.board.get(session, caller, path_id(job_id))
    if job.job_type != OPTIMISATION_TYPE:
        raise NotFound("Job not found")
    return job


def _parameters(told: Any) -> dict[str, Any]:
    """
    The job's parameters: those that come with the request, over them every field of the dialect.

    Raises:
        Refused: fields are wrong, or not known.
    """
    fields = check(FIELDS, told, is_partial=False)
    if unknown := sorted(told.keys() - FIELDS.keys()):
        raise Refused(f"unknown fields: {', '.join(name[:64] for name in unknown[:5])}")
    more = fields.pop("parameters", {})
    if not isinstance(more, Mapping):
        raise Refused("parameters: must be an object")
    return {**more, "user_instructions": None, **dict.fromkeys(OPTIMISATION_SWITCHES, True), **fields}


def _prompt(session: Session, plane: Plane, caller: Caller, version_id: str) -> Any:
    """The prompt, where the version is a file that was uploaded: JSON as it is, all else as text."""
    try:
        model = files.get_model(session, caller, version_id)
    except NotFound:
        return None
    sha = files.last_revision(session, model.file_id).content_sha
    raw = plane.blobs.read(caller.project_id, sha, limit=MAX_PROMPT_BYTES)
    if raw is None:
        raise Refused(f"prompt_template_version_id: the file is longer than {MAX_PROMPT_BYTES} bytes")
    try:
        return strict_json.loads(raw)
    except strict_json.NotJson:
        return raw.decode(errors="replace")
