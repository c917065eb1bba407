"""The blobs themselves. No token comes here: the address is the right to use it, until it expires."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool
from starlette.responses import FileResponse

from overmind_controlplane.answering import content_digests
from overmind_controlplane.answering.routing import OPEN, ThePlane, must_be_sha
from overmind_controlplane.plane import Plane
from overmind_controlplane.refusals import NotFound, Refused, TooLarge
from overmind_controlplane.storage import multipart

router = APIRouter(tags=["blobs"], dependencies=[OPEN])

_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "attachment",
}
"""A blob is whatever somebody uploaded: a browser must neither guess at it nor run it."""


@router.put("/blobs/{sha}")
async def put_blob(sha: str, request: Request, plane: ThePlane) -> Response:
    """Store a blob, or a part of one; it is there when this is answered, and not before."""
    query = _checked(request, plane, "PUT", sha)
    if part := query.get("part"):
        return await _put_part(request, plane, multipart.part_path(plane.blobs, query["project"], sha, part))
    # In threads: its end waits for the disk, and may have to ask the database.
    async with contextmanager_in_threadpool(plane.blobs.receive(query["project"], sha)) as file:
        await _receive(request, file, plane.settings.max_blob_bytes)
    return Response(status_code=200)


@router.get("/blobs/{sha}")
def get_blob(sha: str, request: Request, plane: ThePlane) -> Response:
    """A blob's bytes; `Range` is understood."""
    query = _checked(request, plane, "GET", sha)
    path = plane.blobs.path(query["project"], sha)
    if not path.is_file():
        raise NotFound("Blob not found")
    if path.stat().st_size == 0:
        return Response(b"", media_type="application/octet-stream", headers=_SAFE_HEADERS)
    return FileResponse(path, media_type="application/octet-stream", headers=_SAFE_HEADERS)


async def _put_part(request: Request, plane: Plane, path: Path) -> Response:
    waiting = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with waiting.open("xb") as file:
            await _receive(request, file, plane.settings.max_blob_bytes)
        waiting.replace(path)
    finally:
        waiting.unlink(missing_ok=True)
    tag = await run_sync(multipart.etag, path)
    return Response(status_code=200, headers={"ETag": f'"{tag}"'})


async def _receive(request: Request, file: BinaryIO, limit: int) -> None:
    """
    Write the body into *file*.

    Raises:
        TooLarge: it is longer than *limit* bytes.
        Refused: it ended before the length that it told.
        Garbled: it does not have its `Content-Digest`.
    """
    digest, arrived = content_digests.told(request.headers.get("content-digest", "")), hashlib.sha256()
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise TooLarge(f"the blob has {told} bytes; at most {limit} are taken")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the blob is longer than {limit} bytes")
        if digest is not None:
            arrived.update(chunk)
        await run_sync(file.write, chunk)
    if told.isdigit() and size != int(told):
        raise Refused(f"the body ended after {size} of {told} bytes")
    if digest is not None:
        content_digests.check(digest, arrived.digest())
    await run_sync(os.fsync, file.fileno())


def _checked(request: Request, plane: Plane, verb: str, sha: str) -> dict[str, str]:
    must_be_sha(sha)
    query = dict(request.query_params)
    plane.signer.check(verb, sha, query)
    return query
