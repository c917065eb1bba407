"""Agent-pull routes for models: the files that jobs work on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.pages import cut
from overmind_controlplane.answering.routing import (
    AnyCaller,
    PageNumber,
    PageSize,
    Submitter,
    ThePlane,
    answer,
    answer_page,
)
from overmind_controlplane.record.tables import Model
from overmind_controlplane.shown.artifacts import show_models
from overmind_controlplane.storage import files

router = APIRouter(prefix="/api/v2", tags=["agent-pull: files"])

ToldRevision = Annotated[wire.FileRevision, Depends(json_body(wire.FileRevision))]


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
