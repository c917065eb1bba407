"""Agent-pull routes for a job's log: append, read, follow."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import FileResponse, StreamingResponse

from overmind_agent import wire
from overmind_agent.lifecycle import LIFECYCLE
from overmind_controlplane.answering import bodies, content_digests
from overmind_controlplane.answering.routing import AgentCaller, AnyCaller, Fence, ThePlane, answer
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs.fence import must_be_latest
from overmind_controlplane.jobs.waiting import log_topic
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.database import ring
from overmind_controlplane.refusals import Conflict, Refused, TooLarge, wrong
from overmind_controlplane.storage.joblogs import WRONG_OFFSET

router = APIRouter(prefix="/api/v2", tags=["agent-pull: jobs"])

MAX_LOG_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 30.0
_TEXT: Final = "text/plain; charset=utf-8"

Offset = Annotated[int, Query(ge=0, le=1 << 50)]


@router.put("/jobs/{job_id}/logs", response_model=wire.LogOffset)
async def append_job_log(
    request: Request,
    job_id: str,
    caller: AgentCaller,
    plane: ThePlane,
    offset: Offset,
    attempt: Fence = None,
    content_digest: Annotated[str, Header()] = "",
) -> Response:
    """Add bytes at the end of the job's log; a `Content-Digest` is checked."""
    body = await bodies.read(request, MAX_LOG_BYTES)
    if (digest := content_digests.told(content_digest)) is not None:
        content_digests.check(digest, hashlib.sha256(body).digest())
    data = _plain(body, request.headers.get("content-encoding", ""))
    end = await run_sync(append, plane, caller, job_id, attempt, offset, data)
    return answer(wire.LogOffset(offset=end))


def append(plane: Plane, caller: Caller, job_id: str, attempt: int | None, offset: int, data: bytes) -> int:
    """Add *data*, which starts at *offset*, to the log; returns where it ends, once that much is on the disk."""
    try:
        # Within the transaction, which locks the job: no other attempt is granted between the check and the bytes.
        with plane.database.write() as session:
            job = plane.board.get(session, caller, job_id)
            must_be_latest(job, attempt)
            end = plane.logs.append(job.id, offset, data)
            ring(session, log_topic(job.id))
    except Conflict as error:
        if error.code == WRONG_OFFSET:  # it tells where the log ends, too
            plane.logs.keep(job_id)
        raise
    if data:
        plane.logs.keep(job_id)  # outside, where a slow disk holds up nobody else
    return end


@router.get("/jobs/{job_id}/logs")
def get_job_log(
    job_id: str,
    caller: AnyCaller,
    plane: ThePlane,
    follow: Annotated[bool, Query()] = False,
    offset: Offset = 0,
) -> Response:
    """
    The log's bytes; `Range` is understood.

    With `follow` they are sent from `offset` on as they come, until the job is final.
    """
    with plane.database.read() as session:
        job = plane.board.get(session, caller, job_id)
    if follow:
        return StreamingResponse(_follow(plane, job.id, offset), media_type=_TEXT)
    path = plane.logs.path(job.id)
    if not path.exists() or path.stat().st_size == 0:
        return Response(b"", media_type=_TEXT)
    return FileResponse(path, media_type=_TEXT, filename=f"{path.name}.log")


async def _follow(plane: Plane, job_id: str, offset: int) -> AsyncIterator[bytes]:
    is_final = False
    while not (is_final or plane.waiting.is_closed):
        look = partial(run_sync, partial(_look, plane, job_id, offset))
        seen = await plane.waiting.until(look, log_topic(job_id), wait_s=LOOK_EVERY_S)
        if seen is not None:
            data, is_final = seen
            offset += len(data)
            if data:
                yield data
    # What was written while the last part was on its way.
    while data := await run_sync(plane.logs.read, job_id, offset, MAX_LOG_BYTES):
        offset += len(data)
        yield data


def _look(plane: Plane, job_id: str, offset: int) -> tuple[bytes, bool] | None:
    """What is new: bytes, and whether there will be no more; None for nothing."""
    with plane.database.read() as session:
        job = plane.board.get_all(session, {job_id}).get(job_id)
        is_final = job is None or LIFECYCLE[job.status].is_final  # or it was deleted meanwhile
    data = plane.logs.read(job_id, offset, MAX_LOG_BYTES)
    return (data, is_final) if data or is_final else None


def _plain(data: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return data
    if encoding != "gzip":
        raise Refused(f"the content encoding {encoding!r} is not understood; send gzip or none")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            plain = packed.read(MAX_LOG_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise wrong("the body is not gzip", "body") from error
    if len(plain) > MAX_LOG_BYTES:
        raise TooLarge(f"the body unpacks to more than {MAX_LOG_BYTES} bytes")
    return plain
