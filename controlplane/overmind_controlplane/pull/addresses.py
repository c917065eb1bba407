"""Agent-pull routes for the addresses under which blobs come and go, whole or in parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from overmind_agent import wire
from overmind_controlplane.answering.bodies import json_body, takes
from overmind_controlplane.answering.routing import (
    AnyCaller,
    ThePlane,
    answer,
    answer_json,
    base_url,
    must_be_sha,
)
from overmind_controlplane.caller import Caller
from overmind_controlplane.plane import Plane
from overmind_controlplane.refusals import Conflict, NotFound, wrong
from overmind_controlplane.storage import multipart

router = APIRouter(prefix="/api/v2", tags=["agent-pull: files"])

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
