"""Agent-pull routes for files: models, artifacts, and the addresses under which blobs come and go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field
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
    Submitter,
    ThePlane,
    answer,
    answer_json,
    answer_page,
    base_url,
    must_be_sha,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull.inline_blobs import asked_digest, check_with_blobs
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.tables import Artifact, Job, Model, Revision
from overmind_controlplane.refusals import Conflict, NotFound, wrong
from overmind_controlplane.shown.artifacts import show_artifacts, show_models
from overmind_controlplane.storage import files, multipart

router = APIRouter(prefix="/api/v2", tags=["agent-pull: files"])

ToldRevision = Annotated[wire.FileRevision, Depends(json_body(wire.FileRevision))]

MAX_PARTS: Final = 10_000


class NewMultipart(wire.Asked):
    """The body of `POST /tokens/multipart-upload`."""

    sha: wire.Sha
    num_parts: Annotated[int, Field(ge=1, le=MAX_PARTS)]


class CompletedPart(wire.Asked):
    """One part of an upload that is to be put together."""

    ETag: str
    PartNumber: Annotated[int, Field(ge=1, le=MAX_PARTS)]


class EndMultipart(wire.Asked):
    """The body of `PUT /tokens/multipart-upload`."""

    action: Literal["complete", "cancel"]
    sha: wire.Sha
    upload_id: wire.Id
    completed_parts: Annotated[list[CompletedPart], Field(max_length=MAX_PARTS)] | None = None


# ------------------------------------------------------------------------------------------------ models


@router.post("/models", response_model=wire.Model, openapi_extra=takes(wire.FileRevision))
def create_model(caller: Submitter, plane: ThePlane, body: ToldRevision) -> Response:
    """A new model; the body describes its file, whose blobs are there already."""
    revision = files.check(plane.blobs, caller.project_id, body)
    with plane.database.write() as session:
        return _one_model(session, files.add_model(session, caller, revision))


@router.get("/models")
def list_models(caller: AnyCaller, plane: ThePlane, page: PageNumber = 1, size: PageSize = 10) -> Response:
    """The project's models, oldest first."""
    rows = select(Model).where(Model.project_id == caller.project_id).order_by(Model.number)
    with plane.database.read() as session:
        found, total = cut(session, rows, page, size)
        return answer_page(list(show_models(session, found)), total, page, size)


@router.get("/models/{model_id}", response_model=wire.Model)
def get_model(model_id: str, caller: AnyCaller, plane: ThePlane) -> Response:
    """One model with its artifacts and its newest jobs."""
    with plane.database.read() as session:
        return _one_model(session, files.get_model(session, caller, model_id))


@router.put("/models/{model_id}", response_model=wire.Model, openapi_extra=takes(wire.FileRevision))
def update_model(model_id: str, caller: Submitter, plane: ThePlane, body: ToldRevision) -> Response:
    """A new version of a model's file."""
    revision = files.check(plane.blobs, caller.project_id, body)
    with plane.database.write() as session:
        model = files.get_model(session, caller, model_id)
        files.append_revision(session, caller, model.file_id, revision)
        return _one_model(session, model)


def _one_model(session: Session, model: Model) -> Response:
    return answer(show_models(session, [model], with_jobs=True)[0])


# --------------------------------------------------------------------------------------------- artifacts


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
        made = _make(session, plane, model, new, attempt)
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
        made = [_make(session, plane, model, one, attempt) for one in new]
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


def _make(session: Session, plane: Plane, model: Model, new: _New, attempt: int | None) -> str:
    """The id of the new artifact, or of the one that was made under its key."""
    caller = new.caller
    scope = files.artifact_scope(caller.project_id, caller)
    if new.key is not None and (granted := idempotency.find(session, scope, new.key, new.asked)):
        return files.get_artifact(session, caller, granted.made).id
    for job in _source_jobs(session, caller, new.revision):
        plane.board.may_add_file(job, attempt)
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
def update_artifact(artifact_id: str, caller: AgentCaller, plane: ThePlane, body: ToldRevision) -> Response:
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


# ------------------------------------------------------------------------------------------------ tokens


@router.get("/tokens/{sha}/upload-url", response_model=wire.TemporaryUrl)
def get_upload_url(sha: str, request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """Where to PUT a blob. 409 when it is there already."""
    _must_be_new(plane, caller, must_be_sha(sha))
    return answer(_address(request, plane, caller, "PUT", sha))


@router.get("/tokens/{sha}/download-url", response_model=wire.TemporaryUrl)
def get_download_url(sha: str, request: Request, caller: AnyCaller, plane: ThePlane) -> Response:
    """Where to GET a blob."""
    must_be_sha(sha)
    owner = next((project for project in sorted(caller.projects) if plane.blobs.has(project, sha)), None)
    if owner is None:
        raise NotFound("Blob not found")
    return answer(_address(request, plane, caller.within(owner), "GET", sha))


@router.post("/tokens/multipart-upload", openapi_extra=takes(NewMultipart))
def begin_multipart_upload(
    request: Request,
    caller: AnyCaller,
    plane: ThePlane,
    body: Annotated[NewMultipart, Depends(json_body(NewMultipart))],
) -> Response:
    """Where to PUT the parts of a large blob."""
    _must_be_new(plane, caller, body.sha)
    upload_id = multipart.begin(plane.blobs, caller.project_id, body.sha)
    urls = _part_addresses(request, plane, caller, body.sha, upload_id, range(1, body.num_parts + 1))
    return answer_json({"upload_id": upload_id, "upload_urls": urls})


@router.get("/tokens/multipart-upload")
def get_multipart_upload(
    request: Request,
    caller: AnyCaller,
    plane: ThePlane,
    sha: str,
    upload_id: wire.Id,
    num_parts: Annotated[int, Query(ge=0, le=MAX_PARTS)] = 0,
) -> Response:
    """Ours: the parts that have arrived, and where to PUT those of *num_parts* that have not."""
    there = multipart.arrived(plane.blobs, caller.project_id, must_be_sha(sha), upload_id)
    missing = sorted(set(range(1, num_parts + 1)) - {part.number for part in there})
    parts = [{"PartNumber": part.number, "ETag": f'"{part.tag}"', "Size": part.size} for part in there]
    urls = _part_addresses(request, plane, caller, sha, upload_id, missing)
    return answer_json({"upload_id": upload_id, "parts": parts, "upload_urls": urls})


@router.put("/tokens/multipart-upload", openapi_extra=takes(EndMultipart))
def end_multipart_upload(
    caller: AnyCaller, plane: ThePlane, body: Annotated[EndMultipart, Depends(json_body(EndMultipart))]
) -> Response:
    """Put the parts together, or throw them away."""
    if body.action == "cancel":
        multipart.discard(plane.blobs, caller.project_id, body.sha, body.upload_id)
        return answer_json({"upload_id": body.upload_id})
    parts = [(part.PartNumber, part.ETag.strip('"')) for part in body.completed_parts or ()]
    if not parts:
        raise wrong("a complete upload names its parts", "body", "completed_parts", kind="missing")
    multipart.complete(plane.blobs, (caller.project_id, body.sha, body.upload_id), parts)
    return answer_json({"upload_id": body.upload_id})


def _part_addresses(
    request: Request, plane: Plane, caller: Caller, sha: str, upload_id: str, numbers: Iterable[int]
) -> dict[str, Any]:
    """Where to PUT the parts, by number."""
    return {
        str(number): _address(
            request, plane, caller, "PUT", sha, multipart.part_name(upload_id, number)
        ).model_dump(mode="json")
        for number in numbers
    }


def _must_be_new(plane: Plane, caller: Caller, sha: str) -> None:
    if plane.blobs.has(caller.project_id, sha):
        raise Conflict("Sha already exists", code="sha_exists")


def _address(
    request: Request, plane: Plane, caller: Caller, verb: str, sha: str, part: str = ""
) -> wire.TemporaryUrl:
    query, expires = plane.signer.sign(verb, caller.project_id, sha, part=part)
    return wire.TemporaryUrl(url=f"{base_url(request)}/blobs/{sha}?{urlencode(query)}", expires=expires)
