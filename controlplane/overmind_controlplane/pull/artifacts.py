"""Agent-pull routes for artifacts: the files that jobs made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.pages import cut
from overmind_controlplane.answering.routing import (
    MINIMAL,
    AgentCaller,
    AnyCaller,
    Fence,
    IdempotencyKey,
    PageNumber,
    PageSize,
    ThePlane,
    answer,
    answer_page,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs.fence import may_add_file
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull.inline_blobs import asked_digest, check_with_blobs
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.tables import Artifact, Job, Model, Revision
from overmind_controlplane.shown.artifacts import show_artifacts
from overmind_controlplane.storage import files

router = APIRouter(prefix="/api/v2", tags=["agent-pull: files"])

ToldRevision = Annotated[wire.FileRevision, Depends(json_body(wire.FileRevision))]


@router.post("/models/{model_id}/artifacts", response_model=wire.Artifact, openapi_extra=takes(wire.NewArtifact))
def create_artifact(
    model_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.NewArtifact, Depends(json_body(wire.NewArtifact))],
    attempt: Fence = None,
    key: IdempotencyKey = None,
    prefer: Annotated[str | None, Header()] = None,
) -> Response:
    """A file that a job made: its sources name the job's revision. Fence, key, `blobs` and `as_model` are ours."""
    (new,) = _taken_in(plane, caller, model_id, [(body, key)])
    with plane.database.write() as session:
        model = files.get_model(session, new.caller, model_id)
        made = _make(session, model, new, attempt)
        idempotency.settle(session)
        if prefer == MINIMAL:
            return answer(wire.Made(id=made))
        return _one_artifact(session, files.get_artifact(session, new.caller, made))


@router.post(
    "/models/{model_id}/artifacts/together",
    response_model=wire.MadeArtifacts,
    openapi_extra=takes(wire.NewArtifacts),
)
def create_artifacts(
    model_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: Annotated[wire.NewArtifacts, Depends(json_body(wire.NewArtifacts))],
    attempt: Fence = None,
) -> Response:
    """Several files that a job made, all of them or none. Ours."""
    new = _taken_in(plane, caller, model_id, [(one, one.key) for one in body.artifacts])
    with plane.database.write() as session:
        model = files.get_model(session, new[0].caller, model_id)
        made = [_make(session, model, one, attempt) for one in new]
        idempotency.settle(session)
        return answer(wire.MadeArtifacts(ids=made))


@dataclass(frozen=True)
class _New:
    """
    An artifact whose blobs are here.

    Attributes:
        caller: in the project of its model.
        asked: the digest of what was asked, for *key*.
        as_model: whether its file is to be a model, too.
    """

    caller: Caller
    revision: files.NewRevision
    key: str | None
    asked: str
    as_model: bool


def _taken_in(
    plane: Plane, caller: Caller, model_id: str, told: Sequence[tuple[wire.NewArtifact, str | None]]
) -> list[_New]:
    """Artifacts, each with its key."""
    bodies = [body for body, _ in told]
    (owner, *_) = [_where(plane, caller, body, model_id=model_id) for body in bodies]  # of one model, so the same
    revisions = check_with_blobs(plane.blobs, owner.project_id, bodies)
    return [
        _New(owner, revision, key, asked_digest(model_id, body), body.as_model)
        for (body, key), revision in zip(told, revisions, strict=True)
    ]


def _make(session: Session, model: Model, new: _New, attempt: int | None) -> str:
    """The id of the new artifact, or of the one that was made under its key."""
    caller = new.caller
    scope = files.artifact_scope(caller.project_id, caller)
    if new.key is not None and (granted := idempotency.find(session, scope, new.key, new.asked)):
        return files.get_artifact(session, caller, granted.made).id
    for job in _source_jobs(session, caller, new.revision):
        may_add_file(job, attempt)
    made = files.add_artifact(session, caller, model, new.revision)
    if new.as_model:
        files.add_model(session, caller, new.revision)
    if new.key is not None:
        idempotency.keep(session, scope, new.key, new.asked, made=made.id)
    return made.id


def _where(
    plane: Plane, caller: Caller, body: wire.FileRevision, *, model_id: str = "", artifact_id: str = ""
) -> Caller:
    """
    The caller in the project of the model, or of the artifact, with the blobs that it uploaded.

    An address for an upload names no project, so that an agent that serves several uploads to its first one.
    """
    if not caller.more_projects:
        return caller
    with plane.database.read() as session:
        owner = (
            files.get_model(session, caller, model_id)
            if model_id
            else files.get_artifact(session, caller, artifact_id)
        )
    for token in (body.content_token, body.properties_token):
        plane.blobs.share(caller.project_id, token.sha, owner.project_id)
    return caller.within(owner.project_id)


def _source_jobs(session: Session, caller: Caller, revision: files.NewRevision) -> list[Job]:
    named = [source.revision_id for source in revision.sources]
    mine = (
        select(Job)
        .join(Revision, Revision.file_id == Job.file_id)
        .where(Revision.id.in_(named), Job.project_id == caller.project_id)
        .order_by(Job.number)
        .with_for_update(of=Job, key_share=True)  # no other attempt is granted until the file is in
    )
    return list(session.scalars(mine).unique())


@router.get("/models/{model_id}/artifacts")
def list_model_artifacts(
    model_id: str, caller: AnyCaller, plane: ThePlane, page: PageNumber = 1, size: PageSize = 10
) -> Response:
    """A model's artifacts, oldest first."""
    with plane.database.read() as session:
        model = files.get_model(session, caller, model_id)
        return _artifact_page(session, select(Artifact).where(Artifact.model_id == model.id), page, size)


@router.get("/artifacts")
def list_artifacts(caller: AnyCaller, plane: ThePlane, page: PageNumber = 1, size: PageSize = 10) -> Response:
    """The project's artifacts, oldest first."""
    with plane.database.read() as session:
        rows = select(Artifact).where(Artifact.project_id == caller.project_id)
        return _artifact_page(session, rows, page, size)


@router.get("/artifacts/{artifact_id}", response_model=wire.Artifact)
def get_artifact(artifact_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One artifact."""
    with plane.database.read() as session:
        return _one_artifact(session, files.get_artifact(session, caller, artifact_id))


@router.put("/artifacts/{artifact_id}", response_model=wire.Artifact, openapi_extra=takes(wire.FileRevision))
def update_artifact(
    artifact_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    body: ToldRevision,
) -> Response:
    """A new version of an artifact's file."""
    caller = _where(plane, caller, body, artifact_id=artifact_id)
    revision = files.check(plane.blobs, caller.project_id, body)
    with plane.database.write() as session:
        artifact = files.get_artifact(session, caller, artifact_id)
        files.append_revision(session, caller, artifact.file_id, revision)
        return _one_artifact(session, artifact)


def _artifact_page(session: Session, rows: Select[Artifact], page: int, size: int) -> Response:
    found, total = cut(session, rows.order_by(Artifact.number), page, size)
    return answer_page(list(show_artifacts(session, found)), total, page, size)


def _one_artifact(session: Session, artifact: Artifact) -> Response:
    return answer(show_artifacts(session, [artifact])[0])
