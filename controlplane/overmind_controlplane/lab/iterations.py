"""Overmind Lab's job-iterations: one step of a job's search each."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from overmind_controlplane.answering.routing import AnyCaller, ThePlane, answer_json
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs.iterations import attach
from overmind_controlplane.lab import records as lab_records
from overmind_controlplane.lab.bodies import Told, path_id, takes
from overmind_controlplane.lab.checks import check, check_filters
from overmind_controlplane.lab.fields import ITERATION_FIELDS, ITERATION_FILTERS
from overmind_controlplane.lab.jobs import named_job
from overmind_controlplane.lab.listing import Columns, compared, contains, described, ordered, page
from overmind_controlplane.record.tables import Iteration, Job
from overmind_controlplane.refusals import NotFound

router = APIRouter(prefix="/api/job-iterations", tags=["Overmind Lab: iterations"])

ORDER: Final[Columns] = {
    "created_at": Iteration.number,
    "order": Iteration.order,
    "avg_score": Iteration.avg_score,
    "iteration_name": Iteration.iteration_name,
    "status": Iteration.status,
}


@router.post("/", status_code=201, openapi_extra=takes(ITERATION_FIELDS, is_partial=False))
def create_iteration(caller: AnyCaller, plane: ThePlane, told: Told) -> Response:
    """Add one step of a job's search."""
    fields = check(ITERATION_FIELDS, told, is_partial=False)
    with plane.database.write() as session:
        job = named_job(session, plane, caller, fields.pop("job_id"))
        made = attach(session, job, fields)
        return answer_json(lab_records.iteration(made, job.user_number), 201)


@router.get("/", openapi_extra=described(ITERATION_FILTERS, ORDER))
def list_iterations(request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's iterations, oldest first, a page at a time."""
    rows = select(Iteration).where(Iteration.project_id == caller.project_id)
    for name, value in check_filters(ITERATION_FILTERS, request.query_params).items():
        rows = rows.where(_filter(name, value))
    rows = ordered(rows, request.query_params.get("ordering") or "created_at", ORDER, Iteration.number)
    with plane.database.read() as session:
        found, listing = page(session, request, rows)
        users = _users(session, {step.job_id for step in found})
        return answer_json(
            listing | {"results": [lab_records.iteration(step, users[step.job_id]) for step in found]}
        )


@router.get("/{iteration_id}/")
def get_iteration(iteration_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One iteration."""
    with plane.database.read() as session:
        return _shown(session, _find(session, caller, iteration_id))


@router.patch("/{iteration_id}/", openapi_extra=takes(ITERATION_FIELDS))
@router.put("/{iteration_id}/", openapi_extra=takes(ITERATION_FIELDS, is_partial=False))
def update_iteration(
    request: Request, iteration_id: str, caller: AnyCaller, plane: ThePlane, told: Told
) -> Response:
    """Write some fields of an iteration; PUT needs the required ones."""
    fields = check(ITERATION_FIELDS, told, is_partial=request.method == "PATCH")
    with plane.database.write() as session:
        step = _find(session, caller, iteration_id)
        if "job_id" in fields:
            named_job(session, plane, caller, fields["job_id"])
        for column, value in fields.items():
            setattr(step, column, value)
        session.flush()
        return _shown(session, step)


@router.delete("/{iteration_id}/", status_code=204)
def delete_iteration(iteration_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """Remove an iteration."""
    with plane.database.write() as session:
        session.delete(_find(session, caller, iteration_id))
    return Response(status_code=204)


def _find(session: Session, caller: Caller, iteration_id: str) -> Iteration:
    mine = (Iteration.id == path_id(iteration_id), Iteration.project_id == caller.project_id)
    step = session.scalar(select(Iteration).where(*mine))
    if step is None:
        raise NotFound("Not found.")
    return step


def _shown(session: Session, step: Iteration) -> Response:
    return answer_json(lab_records.iteration(step, _users(session, {step.job_id})[step.job_id]))


def _users(session: Session, job_ids: set[str]) -> dict[str, int]:
    """Who made the jobs: an iteration belongs to the same."""
    rows = session.execute(select(Job.id, Job.user_number).where(Job.id.in_(job_ids)))
    return {job_id: user_number for job_id, user_number in rows}  # noqa: C416 - a Row is not a tuple to mypy


def _filter(name: str, value: Any) -> ColumnElement[bool]:
    if name == "search":
        return contains(value, Iteration.iteration_name, Iteration.description)
    return compared(name, getattr(Iteration, ITERATION_FILTERS[name].column), value)
