"""
The Overmind Lab dialect under `/api/`: jobs and their iterations, as its published clients expect them.

Paths end in a slash; a GET without it is redirected, as Django does, and any other method is 404 and says why.
Errors are 400 with a map of fields, else `{"detail": …}`; never 422.

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
from operator import eq, ge, le
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import ColumnElement, Select, UnaryExpression, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from starlette.responses import RedirectResponse

from overmind_agent.jobs import FUNCTION_SCOPE
from overmind_agent.lifecycle import Status, with_rest_name
from overmind_controlplane import bodies, files, lab_records
from overmind_controlplane.access import Caller, Role
from overmind_controlplane.lab_fields import (
    ITERATION_FIELDS,
    ITERATION_FILTERS,
    JOB_FIELDS,
    JOB_FILTERS,
    STATUS_WORDS,
    an_id,
    check,
    check_filters,
    rest_name,
)
from overmind_controlplane.pages import cut
from overmind_controlplane.plane import Plane
from overmind_controlplane.refusals import NotFound, Refused, WrongFields
from overmind_controlplane.routing import AnyCaller, Submitter, ThePlane, answer_json, base_url
from overmind_controlplane.tables import Iteration, Job, now
from overmind_controlplane.words import NewJob
from overmind_executors import strict_json

router = APIRouter(tags=["Overmind Lab"])

MAX_BODY_BYTES: Final = 8 << 20
PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200


async def lab_body(request: Request) -> Any:
    """
    The body, whatever JSON it is.

    Raises:
        Refused: it is not strict JSON.
    """
    try:
        return strict_json.loads(await bodies.read(request, MAX_BODY_BYTES))
    except strict_json.NotJson as error:
        raise Refused(f"JSON parse error - {error}") from error


Told = Annotated[Any, Depends(lab_body)]


@router.get("/health")
def health() -> Response:
    """Whether the server answers; needs no token."""
    return answer_json({"status": "healthy"})


@router.get("/api/auth/me/")
def me(caller: AnyCaller) -> Response:
    """Who the token belongs to: the cheapest check of one."""
    return answer_json({"id": caller.number, "email": f"token-{caller.number}@localhost", "email_verified": False})


# -------------------------------------------------------------------------------------------------- jobs


@router.post("/api/jobs/", status_code=201)
def create_job(caller: Submitter, plane: ThePlane, told: Told) -> Response:
    """A new job. Its parameters are in `result.parameters`; `items_file` in them names a model to work on."""
    fields = check(JOB_FIELDS, told, is_partial=True)
    _must_be_own_project(caller, fields.pop("project", None))
    word = fields.pop("status", "pending")
    function_name = FUNCTION_SCOPE + fields.pop("job_type", "inference")
    parameters, fields["result"] = _split(fields.get("result"))
    revision = files.write_json(plane.blobs, caller.project_id, "parameters.json", parameters)
    with plane.database.write() as session:
        new = NewJob(
            function_name=function_name,
            revision=revision,
            model_id=_items_model(session, caller, parameters),
            fields=fields,
        )
        job = plane.board.create(session, caller, new)
        _set_status(session, plane, caller, job, word)
        return answer_json(lab_records.detail(session, plane.blobs, job), 201)


@router.get("/api/jobs/")
def list_jobs(request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's jobs, newest first, a page at a time."""
    filters = check_filters(JOB_FILTERS, request.query_params)
    rows = select(Job).where(
        Job.project_id == caller.project_id, Job.is_deleted.is_(False), Job.job_type.is_not(None)
    )
    for name, value in filters.items():
        rows = rows.where(_job_filter(caller, name, value))
    rows = _ordered(rows, request.query_params.get("ordering"), _JOB_ORDER, Job.number)
    with plane.database.read() as session:
        found, listing = _page(session, request, rows)
        return answer_json(listing | {"results": [lab_records.row(job) for job in found]})


@router.get("/api/jobs/{job_id}/")
def get_job(job_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One job with its iterations."""
    with plane.database.read() as session:
        return answer_json(lab_records.detail(session, plane.blobs, _job(session, plane, caller, job_id)))


@router.patch("/api/jobs/{job_id}/")
@router.put("/api/jobs/{job_id}/")
def update_job(job_id: str, caller: AnyCaller, plane: ThePlane, told: Told) -> Response:
    """Write some fields; all or none. Parameters can be replaced while the job waits and are never lost."""
    fields = check(JOB_FIELDS, told, is_partial=True)
    _must_be_own_project(caller, fields.pop("project", None))
    with plane.database.write() as session:
        job = _job(session, plane, caller, job_id)
        if fields.get("target_agent_id") == lab_records.no_target_agent(caller.project_id):
            fields["target_agent_id"] = None
        word = fields.pop("status", None)
        _must_keep_type(job, fields.pop("job_type", job.job_type))
        if "result" in fields:
            fields["result"] = _rewrite(session, plane, caller, job, fields["result"])
        for column, value in fields.items():
            setattr(job, column, value)
        job.updated = now()
        _set_status(session, plane, caller, job, word)
        session.flush()
        return answer_json(lab_records.detail(session, plane.blobs, job))


@router.delete("/api/jobs/{job_id}/", status_code=204)
def delete_job(job_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """Take a job out of sight; if an agent runs it, it is stopped."""
    with plane.database.write() as session:
        plane.board.delete(session, caller, _job(session, plane, caller, job_id))
    return Response(status_code=204)


# -------------------------------------------------------------------------------------------- iterations


@router.post("/api/job-iterations/", status_code=201)
def create_iteration(caller: AnyCaller, plane: ThePlane, told: Told) -> Response:
    """Add one step of a job's search."""
    fields = check(ITERATION_FIELDS, told, is_partial=False)
    with plane.database.write() as session:
        job = _named_job(session, plane, caller, fields.pop("job_id"))
        return answer_json(lab_records.iteration(plane.board.attach_iteration(session, job, fields)), 201)


@router.get("/api/job-iterations/")
def list_iterations(request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's iterations, oldest first, a page at a time."""
    rows = select(Iteration).where(Iteration.project_id == caller.project_id)
    for name, value in check_filters(ITERATION_FILTERS, request.query_params).items():
        rows = rows.where(_iteration_filter(name, value))
    rows = _ordered(rows, request.query_params.get("ordering") or "created_at", _ITERATION_ORDER, Iteration.number)
    with plane.database.read() as session:
        found, listing = _page(session, request, rows)
        return answer_json(listing | {"results": [lab_records.iteration(step) for step in found]})


@router.get("/api/job-iterations/{iteration_id}/")
def get_iteration(iteration_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One iteration."""
    with plane.database.read() as session:
        return answer_json(lab_records.iteration(_iteration(session, caller, iteration_id)))


@router.patch("/api/job-iterations/{iteration_id}/")
@router.put("/api/job-iterations/{iteration_id}/")
def update_iteration(
    request: Request, iteration_id: str, caller: AnyCaller, plane: ThePlane, told: Told
) -> Response:
    """Write some fields of an iteration; PUT needs the required ones."""
    fields = check(ITERATION_FIELDS, told, is_partial=request.method == "PATCH")
    with plane.database.write() as session:
        step = _iteration(session, caller, iteration_id)
        if "job_id" in fields:
            _named_job(session, plane, caller, fields["job_id"])
        for column, value in fields.items():
            setattr(step, column, value)
        return answer_json(lab_records.iteration(step))


@router.delete("/api/job-iterations/{iteration_id}/", status_code=204)
def delete_iteration(iteration_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """Remove an iteration."""
    with plane.database.write() as session:
        session.delete(_iteration(session, caller, iteration_id))
    return Response(status_code=204)


# ------------------------------------------------------------------------------------------------ slashes


@router.get("/api/jobs", include_in_schema=False)
@router.get("/api/jobs/{_id}", include_in_schema=False)
@router.get("/api/job-iterations", include_in_schema=False)
@router.get("/api/job-iterations/{_id}", include_in_schema=False)
@router.get("/api/auth/me", include_in_schema=False)
def add_slash(request: Request) -> Response:
    """To the same path with a slash."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{request.url.path}/{query}", status_code=301)


_WRITES: Final = ["POST", "PUT", "PATCH", "DELETE"]


@router.api_route("/api/jobs", methods=_WRITES, include_in_schema=False)
@router.api_route("/api/jobs/{_id}", methods=_WRITES, include_in_schema=False)
@router.api_route("/api/job-iterations", methods=_WRITES, include_in_schema=False)
@router.api_route("/api/job-iterations/{_id}", methods=_WRITES, include_in_schema=False)
def refuse_without_slash(request: Request) -> Response:
    """A body cannot be redirected."""
    raise NotFound(f"paths of this API end in a slash: {request.url.path}/")


# ------------------------------------------------------------------------------------------------- rules


def _job(session: Session, plane: Plane, caller: Caller, job_id: str) -> Job:
    try:
        job = plane.board.get(session, caller, an_id(job_id))
    except ValueError:
        raise NotFound("Not found.") from None
    if job.job_type is None:
        raise NotFound("Not found.")
    return job


def _iteration(session: Session, caller: Caller, iteration_id: str) -> Iteration:
    mine = select(Iteration).where(Iteration.id == iteration_id, Iteration.project_id == caller.project_id)
    step = session.scalar(mine)
    if step is None:
        raise NotFound("Not found.")
    return step


def _named_job(session: Session, plane: Plane, caller: Caller, job_id: str) -> Job:
    """The job that a field names; one that is not there is a wrong field, not a missing page."""
    try:
        return _job(session, plane, caller, job_id)
    except NotFound:
        raise WrongFields({"job": [f'Invalid pk "{job_id}" - object does not exist.']}) from None


def _must_be_own_project(caller: Caller, project_id: str | None) -> None:
    if project_id not in (None, caller.project_id):
        raise WrongFields({"project": [f'Invalid pk "{project_id}" - object does not exist.']})


def _must_keep_type(job: Job, job_type: str | None) -> None:
    if job_type != job.job_type:
        raise WrongFields({"job_type": ["The type of a job does not change; make a new job."]})


def _split(result: Any) -> tuple[Any, Any]:
    """The parameters in a `result`, and the rest of it."""
    if not isinstance(result, Mapping):
        return {}, result
    return result.get("parameters", {}), {name: value for name, value in result.items() if name != "parameters"}


def _items_model(session: Session, caller: Caller, parameters: Any) -> str | None:
    """The model that `items_file` names, None when it names none of ours: then it is a matter for the executor."""
    named = parameters.get("items_file") if isinstance(parameters, Mapping) else None
    try:
        model_id = an_id(named)
    except ValueError:
        return None
    try:
        return files.get_model(session, caller, model_id).id
    except NotFound:
        raise WrongFields({"result": [f"parameters.items_file: there is no model {model_id}."]}) from None


def _rewrite(session: Session, plane: Plane, caller: Caller, job: Job, result: Any) -> Any:
    """Take the parameters out of a `result` that is written: kept if the job waits, else those it has stay."""
    parameters, rest = _split(result)
    if job.status is Status.PENDING and isinstance(result, Mapping) and "parameters" in result:
        present = lab_records.parameters(session, plane.blobs, job)
        if parameters != present:
            revision = files.write_json(plane.blobs, caller.project_id, "parameters.json", parameters)
            plane.board.revise(session, caller, job, revision)
    return rest


def _set_status(session: Session, plane: Plane, caller: Caller, job: Job, word: str | None) -> None:
    if word is None or word == rest_name(job.status):
        return
    to = STATUS_WORDS[word]
    if to is not Status.CANCELED:
        plane.board.drive(session, caller, job, to)
        return
    if not job.is_driven:
        caller.must_be(Role.SUBMIT)
    plane.board.cancel(session, caller, job)


# ----------------------------------------------------------------------------------------------- listing

_Column = InstrumentedAttribute[Any]

_JOB_ORDER: Final[Mapping[str, _Column]] = {
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
_ITERATION_ORDER: Final[Mapping[str, _Column]] = {
    "created_at": Iteration.number,
    "order": Iteration.order,
    "avg_score": Iteration.avg_score,
    "iteration_name": Iteration.iteration_name,
    "status": Iteration.status,
}


def _job_filter(caller: Caller, name: str, value: Any) -> ColumnElement[bool]:
    if name == "agent" and value == lab_records.no_target_agent(caller.project_id):
        return Job.target_agent_id.is_(None)
    if name == "status":
        return Job.status.in_(with_rest_name(value))
    if name == "search":
        return _contains(value, Job.id, Job.prompt_slug, Job.analyzer_model, Job.job_type)
    return _compared(name, getattr(Job, JOB_FILTERS[name].column), value)


def _iteration_filter(name: str, value: Any) -> ColumnElement[bool]:
    if name == "search":
        return _contains(value, Iteration.iteration_name, Iteration.description)
    return _compared(name, getattr(Iteration, ITERATION_FILTERS[name].column), value)


def _compared(name: str, column: _Column, value: Any) -> ColumnElement[bool]:
    compare = {"created_after": ge, "score_min": ge, "created_before": le, "score_max": le}.get(name, eq)
    condition: ColumnElement[bool] = compare(column, value)
    return condition


def _contains(words: str, *columns: _Column) -> ColumnElement[bool]:
    """Each word stands in one of the columns, in any case."""
    return and_(*(or_(*(column.icontains(word, autoescape=True) for column in columns)) for word in words.split()))


def _ordered(
    rows: Select[Any], ordering: str | None, columns: Mapping[str, _Column], number: _Column
) -> Select[Any]:
    wanted: list[UnaryExpression[Any]] = []
    for name in filter(None, (ordering or "").split(",")):
        column = columns.get(name.strip().removeprefix("-"))
        if column is None:
            raise WrongFields({"ordering": [f"Order by one of {', '.join(columns)}, each with or without -."]})
        wanted.append(column.desc() if name.strip().startswith("-") else column.asc())
    return rows.order_by(*wanted, number.desc())


def _page(session: Session, request: Request, rows: Select[Any]) -> tuple[list[Any], dict[str, Any]]:
    number, size = (_whole(request, "page", 1), min(_whole(request, "page_size", PAGE_SIZE), MAX_PAGE_SIZE))
    found, total = cut(session, rows, number, size)
    if not found and number > 1:
        raise NotFound("Invalid page.")
    following = _link(request, number + 1) if number * size < total else None
    previous = _link(request, number - 1) if number > 1 else None
    return found, {"count": total, "next": following, "previous": previous}


def _link(request: Request, page: int) -> str:
    url = request.url.include_query_params(page=page)
    return f"{base_url(request)}{url.path}?{url.query}"


def _whole(request: Request, name: str, default: int) -> int:
    told = request.query_params.get(name) or str(default)
    if not (told.isascii() and told.isdigit() and 0 < int(told[:10]) < 1 << 31):
        raise NotFound("Invalid page.")
    return int(told[:10])
