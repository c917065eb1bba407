"""
Overmind Lab's datasets: versions of a target agent's data, which never change.

A dataset is kept twice: as rows, to be shown and paged, and as an input file (JSON lines of `id`, `input`,
`expected_output`, `metadata`), which is what a job that names the dataset gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from overmind_controlplane.answering.routing import AnyCaller, Submitter, ThePlane, answer_json
from overmind_controlplane.caller import Caller
from overmind_controlplane.lab import agents as lab_agents
from overmind_controlplane.lab.bodies import Told, path_id, takes, unknown
from overmind_controlplane.lab.checks import check, check_filters
from overmind_controlplane.lab.fields import DATAPOINT_FIELDS, DATASET_FIELDS, DATASET_FILTERS
from overmind_controlplane.lab.inputs import get_dataset
from overmind_controlplane.lab.listing import Columns, compared, contains, described, ordered, page
from overmind_controlplane.lab.records import moment
from overmind_controlplane.lab.tables import Datapoint, Dataset, TargetAgent
from overmind_controlplane.record.tables import new_id, now
from overmind_controlplane.refusals import NotFound, WrongFields
from overmind_controlplane.storage import files

router = APIRouter(prefix="/api/datasets", tags=["Overmind Lab: datasets"])

MAX_DATAPOINTS: Final = 100_000

ORDER: Final[Columns] = {
    "created_at": Dataset.number,
    "version": Dataset.version,
    "name": Dataset.name,
    "num_datapoints": Dataset.num_datapoints,
    "source": Dataset.source,
    "generator_model": Dataset.generator_model,
}


@router.post("/", status_code=201, openapi_extra=takes(DATASET_FIELDS, is_partial=False))
def create_dataset(caller: Submitter, plane: ThePlane, told: Told) -> Response:
    """The next version of a target agent's data; the one in use from now on, unless `make_active` is false."""
    fields = check(DATASET_FIELDS, told, is_partial=False)
    rows = _rows(fields.pop("datapoints"))
    is_active = fields.pop("make_active", True)
    revision = files.write_lines(plane.blobs, caller.project_id, "dataset.jsonl", [_line(row) for row in rows])
    with plane.database.write() as session:
        agent = _agent(session, caller, fields["agent_id"])
        last = session.scalar(select(func.max(Dataset.version)).where(Dataset.agent_id == agent.id))
        dataset = Dataset(
            id=new_id(),
            created=now(),
            project_id=caller.project_id,
            model_id=files.add_model(session, caller, revision).id,
            version=(last or 0) + 1,
            num_datapoints=len(rows),
            **fields,
        )
        session.add(dataset)
        session.flush()
        session.add_all(Datapoint(dataset_id=dataset.id, **row) for row in rows)
        if is_active:
            lab_agents.activate(agent, dataset, rows)
        session.flush()
        return answer_json(_detail(session, dataset), 201)


@router.get("/", openapi_extra=described(DATASET_FILTERS, ORDER))
def list_datasets(request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's datasets, newest first, a page at a time."""
    rows = select(Dataset).where(Dataset.project_id == caller.project_id, Dataset.is_deleted.is_(False))
    for name, value in check_filters(DATASET_FILTERS, request.query_params).items():
        rows = rows.where(_filter(name, value))
    rows = ordered(rows, request.query_params.get("ordering"), ORDER, Dataset.number)
    with plane.database.read() as session:
        found, listing = page(session, request, rows)
        return answer_json(listing | {"results": [_shown(dataset) for dataset in found]})


@router.get("/{dataset_id}/")
def get_one_dataset(dataset_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One dataset with its datapoints."""
    with plane.database.read() as session:
        return answer_json(_detail(session, get_dataset(session, caller, path_id(dataset_id))))


@router.get("/{dataset_id}/datapoints/", openapi_extra=described({}))
def list_datapoints(request: Request, dataset_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """A dataset's datapoints in their order, a page at a time."""
    with plane.database.read() as session:
        dataset = get_dataset(session, caller, path_id(dataset_id))
        found, listing = page(session, request, _points(dataset))
        return answer_json(listing | {"results": [_point(point) for point in found]})


@router.post("/{dataset_id}/activate/")
def activate_dataset(dataset_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """Make this version the one in use."""
    with plane.database.write() as session:
        dataset = get_dataset(session, caller, path_id(dataset_id))
        agent = lab_agents.find_agent(session, caller, dataset.agent_id)
        shown = _detail(session, dataset)
        lab_agents.activate(agent, dataset, shown["datapoints"])
        return answer_json(shown)


@router.delete("/{dataset_id}/", status_code=204)
def delete_dataset(dataset_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """Take a dataset out of sight; jobs on it keep their input."""
    with plane.database.write() as session:
        dataset = get_dataset(session, caller, path_id(dataset_id))
        dataset.is_deleted = True
        agent = session.scalar(select(TargetAgent).where(TargetAgent.active_dataset_id == dataset.id))
        if agent is not None:
            agent.active_dataset_id = None
    return Response(status_code=204)


def _agent(session: Session, caller: Caller, agent_id: str) -> TargetAgent:
    # Locked where the database can, so that two new versions do not get one number.
    try:
        agent = lab_agents.find_agent(session, caller, agent_id)
    except NotFound:
        raise unknown("agent", agent_id) from None
    session.refresh(agent, with_for_update=True)
    return agent


def _rows(told: Any) -> list[Mapping[str, Any]]:
    """
    The datapoints of a new dataset, each with an id, in their order: by `order`, then as they were given.

    Raises:
        WrongFields: names the first twenty that are wrong.
    """
    if not isinstance(told, list):
        raise WrongFields({"datapoints": ["Expected a list of items."]})
    if not 0 < len(told) <= MAX_DATAPOINTS:
        raise WrongFields({"datapoints": [f"Give 1 to {MAX_DATAPOINTS} datapoints (got {len(told)})."]})
    rows, found = [], []
    for position, item in enumerate(told):
        try:
            rows.append(_row(position, item))
        except WrongFields as error:
            found.append(f"{position}: {error.detail}")
    if found:
        raise WrongFields({"datapoints": found[:20]})
    return sorted(rows, key=lambda row: row["order"])


def _row(position: int, item: Any) -> dict[str, Any]:
    told = check(DATAPOINT_FIELDS, item, is_partial=False)
    if told.get("order", 0) < 0:
        raise WrongFields({"order": ["Ensure this value is greater than or equal to 0."]})
    blank = {"expected_output": None, "order": position, "persona": "", "tags": None}
    return {"id": new_id(), **blank, **told}


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A datapoint as a line of the input file."""
    return {
        "id": row["id"],
        "input": row["input"],
        "expected_output": row["expected_output"],
        "metadata": {name: row[name] for name in ("order", "persona", "tags")},
    }


def _shown(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": dataset.id,
        "created_at": moment(dataset.created),
        "agent": dataset.agent_id,
        "version": dataset.version,
        "num_datapoints": dataset.num_datapoints,
        "name": dataset.name,
        "source": dataset.source,
        "generator_model": dataset.generator_model,
        "policy_hash": dataset.policy_hash,
        "metadata": dataset.details,
    }


def _detail(session: Session, dataset: Dataset) -> dict[str, Any]:
    return _shown(dataset) | {"datapoints": [_point(point) for point in session.scalars(_points(dataset))]}


def _points(dataset: Dataset) -> Any:
    return select(Datapoint).where(Datapoint.dataset_id == dataset.id).order_by(Datapoint.order, Datapoint.number)


def _point(point: Datapoint) -> dict[str, Any]:
    names = ("id", "input", "expected_output", "order", "persona", "tags")
    return {name: getattr(point, name) for name in names}


def _filter(name: str, value: Any) -> ColumnElement[bool]:
    if name == "search":
        return contains(value, Dataset.name, Dataset.source, Dataset.generator_model)
    return compared(name, getattr(Dataset, DATASET_FILTERS[name].column), value)
