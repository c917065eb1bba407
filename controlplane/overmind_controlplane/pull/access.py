"""
Agent-pull routes for access: who stands how to a job, a model or an artifact.

What decides here is the token: its project and its role. Relationships are kept and shown, so that clients that
share things with people can; they neither widen nor narrow what a token may do. Whoever made a thing is its owner,
as long as nothing else is said of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import ConfigDict, Field, RootModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.routing import AnyCaller, Submitter, ThePlane, answer, answer_json
from overmind_controlplane.caller import Caller
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull.grants import Grant
from overmind_controlplane.record.tables import Artifact, Job, Model
from overmind_controlplane.refusals import Conflict, NotFound
from overmind_controlplane.storage import files

router = APIRouter(prefix="/api/v2", tags=["agent-pull: access"])

MAX_BULK: Final = 1000

Relation = Literal["viewer", "editor", "owner", "administrator", "executor", "upstreamremoteowner"]


class NewRelation(wire.Asked):
    """The body of `PUT /access/…`."""

    relation: Relation


class Relationship(wire.Asked):
    """One relationship; `subject_info` is what the published client sends along and nobody reads."""

    model_config = ConfigDict(extra="forbid")

    subject_type: Literal["user"]
    subject_id: wire.Id
    relation: Relation
    resource_type: Literal["job", "model", "artifact"]
    resource_id: wire.Id
    subject_info: dict[str, Any] | None = None


class Relationships(RootModel[Annotated[list[Relationship], Field(max_length=MAX_BULK)]]):
    """The body of `POST /bulk/access`."""


Told = Annotated[Relationship, Depends(json_body(Relationship))]
PatchOp = Annotated[Literal["set", "delete"], Query()]


@router.get("/access/{resource_type}/{resource_id}")
def list_access(resource_type: str, resource_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """Everybody who stands to the thing in some way."""
    return _listed(plane, caller, resource_type, resource_id)


@router.post("/access", openapi_extra=takes(Relationship))
def create_access(caller: Submitter, plane: ThePlane, body: Told) -> Response:
    """A new relationship."""
    with plane.database.write() as session:
        return answer(_create(session, plane, caller, body))


@router.post("/bulk/access", openapi_extra=takes(Relationships))
def create_many_accesses(
    caller: Submitter, plane: ThePlane, body: Annotated[Relationships, Depends(json_body(Relationships))]
) -> Response:
    """New relationships, all or none."""
    with plane.database.write() as session:
        made = [_create(session, plane, caller, one) for one in body.root]
        return answer_json([one.model_dump() for one in made])


@router.put("/access/{subject_type}/{subject_id}/{resource_type}/{resource_id}", openapi_extra=takes(NewRelation))
def update_access(
    subject_type: str,
    subject_id: str,
    resource_type: str,
    resource_id: str,
    caller: Submitter,
    plane: ThePlane,
    body: Annotated[NewRelation, Depends(json_body(NewRelation))],
) -> Response:
    """Another relation for the same subject."""
    with plane.database.write() as session:
        _owner(session, plane, caller, resource_type, resource_id)
        grant = _find(session, subject_type, subject_id, resource_id)
        grant.relation = body.relation
        return answer(_shown(grant))


@router.delete("/access/{subject_type}/{subject_id}/{resource_type}/{resource_id}")
def remove_access(
    subject_type: str, subject_id: str, resource_type: str, resource_id: str, caller: Submitter, plane: ThePlane
) -> Response:
    """End a relationship."""
    with plane.database.write() as session:
        _owner(session, plane, caller, resource_type, resource_id)
        session.delete(_find(session, subject_type, subject_id, resource_id))
    return answer_json({})


@router.get("/jobs/{job_id}/access")
def list_job_access(job_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """Everybody who stands to the job in some way."""
    return _listed(plane, caller, "job", job_id)


@router.get("/models/{model_id}/access")
def list_model_access(model_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """Everybody who stands to the model in some way."""
    return _listed(plane, caller, "model", model_id)


@router.get("/artifacts/{artifact_id}/access")
def list_artifact_access(artifact_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """Everybody who stands to the artifact in some way."""
    return _listed(plane, caller, "artifact", artifact_id)


@router.patch("/jobs/{job_id}/access", openapi_extra=takes(Relationship))
def patch_job_access(
    job_id: str, caller: Submitter, plane: ThePlane, body: Told, patch_op: PatchOp = "set"
) -> Response:
    """Make, change or end a relationship; the list as it is then."""
    return _patched(plane, caller, ("job", job_id), body, patch_op)


@router.patch("/models/{model_id}/access", openapi_extra=takes(Relationship))
def patch_model_access(
    model_id: str, caller: Submitter, plane: ThePlane, body: Told, patch_op: PatchOp = "set"
) -> Response:
    """Make, change or end a relationship; the list as it is then."""
    return _patched(plane, caller, ("model", model_id), body, patch_op)


@router.patch("/artifacts/{artifact_id}/access", openapi_extra=takes(Relationship))
def patch_artifact_access(
    artifact_id: str, caller: Submitter, plane: ThePlane, body: Told, patch_op: PatchOp = "set"
) -> Response:
    """Make, change or end a relationship; the list as it is then."""
    return _patched(plane, caller, ("artifact", artifact_id), body, patch_op)


def _patched(plane: Plane, caller: Caller, what: tuple[str, str], body: Relationship, patch_op: str) -> Response:
    resource_type, resource_id = what
    told = body.model_copy(update={"resource_type": resource_type, "resource_id": resource_id})
    with plane.database.write() as session:
        _owner(session, plane, caller, resource_type, resource_id)
        grant = _stored(session, told.subject_id, resource_id)
        if grant is not None and patch_op == "delete":
            session.delete(grant)
        elif grant is not None:
            grant.relation = told.relation
        elif patch_op == "set":
            _create(session, plane, caller, told)
    return _listed(plane, caller, resource_type, resource_id)


def _listed(plane: Plane, caller: Caller, resource_type: str, resource_id: str) -> Response:
    with plane.database.read() as session:
        maker = _owner(session, plane, caller, resource_type, resource_id)
        grants = list(session.scalars(select(Grant).where(Grant.resource_id == resource_id).order_by(Grant.number)))
    first = Grant(subject_id=maker, relation="owner", resource_type=resource_type, resource_id=resource_id)
    implied = [] if maker in {grant.subject_id for grant in grants} else [first]
    return answer_json([_shown(grant).model_dump() for grant in (*implied, *grants)])


def _create(session: Session, plane: Plane, caller: Caller, told: Relationship) -> Relationship:
    _owner(session, plane, caller, told.resource_type, told.resource_id)
    if _stored(session, told.subject_id, told.resource_id) is not None:
        raise Conflict(f"{told.subject_id} has access to this {told.resource_type} already; update it")
    grant = Grant(
        project_id=caller.project_id,
        resource_type=told.resource_type,
        resource_id=told.resource_id,
        subject_id=told.subject_id,
        relation=told.relation,
        created_by=caller.token_id,
    )
    session.add(grant)
    session.flush()
    return _shown(grant)


def _owner(session: Session, plane: Plane, caller: Caller, resource_type: str, resource_id: str) -> str:
    """
    Who made the caller's thing of that id.

    Raises:
        NotFound: there is none, or there is no such kind of thing.
    """
    found: Job | Model | Artifact
    if resource_type == "job":
        found = plane.board.get(session, caller, resource_id)
    elif resource_type == "model":
        found = files.get_model(session, caller, resource_id)
    elif resource_type == "artifact":
        found = files.get_artifact(session, caller, resource_id)
    else:
        raise NotFound(f"there is no access to a {resource_type[:32]} here; to job, model and artifact there is")
    return found.created_by


def _stored(session: Session, subject_id: str, resource_id: str) -> Grant | None:
    return session.scalar(select(Grant).where(Grant.resource_id == resource_id, Grant.subject_id == subject_id))


def _find(session: Session, subject_type: str, subject_id: str, resource_id: str) -> Grant:
    grant = _stored(session, subject_id, resource_id) if subject_type == "user" else None
    if grant is None:
        raise NotFound("Access not found")
    return grant


def _shown(grant: Grant) -> Relationship:
    return Relationship.model_validate(
        {
            "subject_type": "user",
            "subject_id": grant.subject_id,
            "relation": grant.relation,
            "resource_type": grant.resource_type,
            "resource_id": grant.resource_id,
        }
    )
