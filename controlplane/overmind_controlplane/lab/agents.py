"""Overmind Lab's agents: the AI programs under test, which jobs name and datasets belong to. Never workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from overmind_controlplane.answering.routing import AnyCaller, Submitter, ThePlane, answer_json
from overmind_controlplane.caller import Caller
from overmind_controlplane.lab.bodies import Told, must_be_own_project, path_id, takes, unknown
from overmind_controlplane.lab.checks import check, check_filters
from overmind_controlplane.lab.fields import AGENT_ATTRIBUTES, AGENT_FIELDS, AGENT_FILTERS
from overmind_controlplane.lab.listing import Columns, compared, contains, described, ordered, page
from overmind_controlplane.lab.records import moment
from overmind_controlplane.lab.tables import Dataset, TargetAgent
from overmind_controlplane.record.tables import Project, new_id, now
from overmind_controlplane.refusals import Conflict, NotFound

router = APIRouter(prefix="/api/agents", tags=["Overmind Lab: agents"])

ORDER: Final[Columns] = {
    "created_at": TargetAgent.number,
    "updated_at": TargetAgent.updated,
    "name": TargetAgent.name,
    "slug": TargetAgent.slug,
    "model": TargetAgent.model,
    "status": TargetAgent.status,
}

_ROW: Final = (
    "agent_path",
    "analyzer_model",
    "dataset_has_expected_output",
    "dataset_size",
    "description",
    "display_name",
    "entrypoint_fn",
    "structure_weight",
    "tags",
    "tool_usage_weight",
    "total_points",
)
"""The attributes that a line of the list shows."""

_EVAL_SPEC: Final = (
    "agent_path",
    "consistency_rules",
    "fixed_elements",
    "input_schema",
    "optimizable_elements",
    "output_fields",
    "structure_weight",
    "tool_config",
    "tool_usage_weight",
    "total_points",
)


@router.post("/", status_code=201, openapi_extra=takes(AGENT_FIELDS, is_partial=False))
def create_agent(caller: Submitter, plane: ThePlane, told: Told) -> Response:
    """A new target agent; its slug is its own in the project."""
    fields = check(AGENT_FIELDS, told, is_partial=False)
    must_be_own_project(caller, fields.pop("project"))
    with plane.database.write() as session:
        agent = TargetAgent(
            id=new_id(), project_id=caller.project_id, user_number=caller.number, attributes={}, is_deleted=False
        )
        _write(session, caller, agent, fields)
        session.add(agent)
        session.flush()
        return answer_json(detail(agent), 201)


@router.get("/", openapi_extra=described(AGENT_FILTERS, ORDER))
def list_agents(request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """The project's target agents, newest first, a page at a time."""
    rows = select(TargetAgent).where(*_mine(caller))
    for name, value in check_filters(AGENT_FILTERS, request.query_params).items():
        rows = rows.where(_filter(name, value))
    rows = ordered(rows, request.query_params.get("ordering"), ORDER, TargetAgent.number)
    with plane.database.read() as session:
        found, listing = page(session, request, rows)
        return answer_json(listing | {"results": [row(agent) for agent in found]})


@router.get("/{agent_id}/")
def get_agent(agent_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One target agent."""
    with plane.database.read() as session:
        return answer_json(detail(find_agent(session, caller, path_id(agent_id))))


@router.get("/{agent_id}/eval_spec/")
def get_eval_spec(agent_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """How its outputs are scored; every key is there."""
    with plane.database.read() as session:
        agent = find_agent(session, caller, path_id(agent_id))
    told = _attributes(agent)
    said = told["agent_description"]
    shown = said if isinstance(said, str) else told["description"]
    return answer_json({"agent_description": shown} | {name: told[name] for name in _EVAL_SPEC})


@router.patch("/{agent_id}/", openapi_extra=takes(AGENT_FIELDS))
@router.put("/{agent_id}/", openapi_extra=takes(AGENT_FIELDS, is_partial=False))
def update_agent(request: Request, agent_id: str, caller: Submitter, plane: ThePlane, told: Told) -> Response:
    """Write some fields; PUT needs the required ones."""
    fields = check(AGENT_FIELDS, told, is_partial=request.method == "PATCH")
    with plane.database.write() as session:
        agent = find_agent(session, caller, path_id(agent_id))
        must_be_own_project(caller, fields.pop("project", None))
        _write(session, caller, agent, fields)
        agent.updated = now()
        session.flush()
        return answer_json(detail(agent))


@router.delete("/{agent_id}/", status_code=204)
def delete_agent(agent_id: str, caller: Submitter, plane: ThePlane) -> Response:
    """Take a target agent out of sight; its jobs and datasets stay."""
    with plane.database.write() as session:
        find_agent(session, caller, path_id(agent_id)).is_deleted = True
    return Response(status_code=204)


def find_agent(session: Session, caller: Caller, agent_id: str) -> TargetAgent:
    """
    The caller's target agent of that id.

    Raises:
        NotFound: there is none.
    """
    agent = session.scalar(select(TargetAgent).where(TargetAgent.id == agent_id, *_mine(caller)))
    if agent is None:
        raise NotFound("Not found.")
    return agent


def row(agent: TargetAgent) -> dict[str, Any]:
    """A target agent as a line of the list."""
    told = _attributes(agent)
    return _columns(agent) | {name: told[name] for name in _ROW}


def detail(agent: TargetAgent) -> dict[str, Any]:
    """A whole target agent."""
    return (
        _columns(agent)
        | _attributes(agent)
        | {
            "active_dataset": agent.active_dataset_id,
            "is_deleted": agent.is_deleted,
        }
    )


def activate(agent: TargetAgent, dataset: Dataset, rows: list[Mapping[str, Any]]) -> None:
    """Make *dataset*, whose datapoints are *rows*, what new evaluations of *agent* use."""
    agent.active_dataset_id = dataset.id
    keys = sorted({key for line in rows if isinstance(line["input"], Mapping) for key in line["input"]})
    agent.attributes = agent.attributes | {
        "dataset_size": dataset.num_datapoints,
        "dataset_has_expected_output": any(line["expected_output"] is not None for line in rows),
        "dataset_input_keys": keys,
    }
    agent.updated = now()


def _columns(agent: TargetAgent) -> dict[str, Any]:
    return {
        "id": agent.id,
        "created_at": moment(agent.created or now()),
        "updated_at": moment(agent.updated or now()),
        "name": agent.name,
        "project": agent.project_id,
        "slug": agent.slug,
        "status": agent.status,
        "model": agent.model,
        "user": agent.user_number,
    }


def _attributes(agent: TargetAgent) -> dict[str, Any]:
    """All that is only kept and shown; what nobody has written is as the table of fields says."""
    return {name: agent.attributes.get(name, field.default) for name, field in AGENT_ATTRIBUTES.items()}


def _write(session: Session, caller: Caller, agent: TargetAgent, fields: dict[str, Any]) -> None:
    if (slug := fields.get("slug", agent.slug)) != agent.slug:
        _must_be_free(session, caller, slug)
    if (dataset_id := fields.get("active_dataset_id")) is not None and not session.scalar(
        select(Dataset.id).where(
            Dataset.id == dataset_id, Dataset.agent_id == agent.id, Dataset.is_deleted.is_(False)
        )
    ):
        raise unknown("active_dataset", dataset_id)
    kept = {name: value for name, value in fields.items() if name in AGENT_ATTRIBUTES}
    agent.attributes = agent.attributes | kept
    for column, value in fields.items():
        if column not in kept:
            setattr(agent, column, value)


def _must_be_free(session: Session, caller: Caller, slug: str) -> None:
    # The project is locked where the database can: of two that ask for one slug the second one sees the first.
    session.get_one(Project, caller.project_id, with_for_update=True)
    if session.scalar(select(TargetAgent.id).where(TargetAgent.slug == slug, *_mine(caller))):
        raise Conflict("This conflicts with an existing record.", code="conflict")


def _mine(caller: Caller) -> tuple[ColumnElement[bool], ...]:
    return (TargetAgent.project_id == caller.project_id, TargetAgent.is_deleted.is_(False))


def _filter(name: str, value: Any) -> ColumnElement[bool]:
    if name == "search":
        return contains(value, TargetAgent.name, TargetAgent.slug, TargetAgent.model)
    return compared(name, getattr(TargetAgent, AGENT_FILTERS[name].column), value)
