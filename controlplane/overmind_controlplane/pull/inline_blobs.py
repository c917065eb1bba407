"""Artifacts whose blobs come with them: in their own call, or with a status update of their job."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

from overmind_agent import wire
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.plane import Plane
from overmind_controlplane.record import idempotency
from overmind_controlplane.refusals import wrong
from overmind_controlplane.storage import files
from overmind_controlplane.storage.blobs import Blobs, Measured


def check_with_blobs(blobs: Blobs, project_id: str, told: Sequence[wire.NewArtifact]) -> list[files.NewRevision]:
    """
    What each of *told* says, once all blobs that came with them are stored, and the others were read.

    Raises:
        Invalid: one is missing, is not what its name says, too long, or not of this revision.
    """
    sent = [dict(_sent_with(one)) for one in told]
    came = {sha: data for own in sent for sha, data in own.items()}
    # What lies there under that name was not looked at when it came.
    new = {sha: data for sha, data in came.items() if blobs.read(project_id, sha, limit=len(data)) != data}
    blobs.put_all(project_id, new)
    # What came with another one may have been salted otherwise, so each knows its own alone.
    return [
        files.check(blobs, project_id, one, {sha: _measured(sha, data) for sha, data in own.items()})
        for one, own in zip(told, sent, strict=True)
    ]


def asked_digest(model_id: str, told: wire.NewArtifact) -> str:
    """The same for what is the same artifact of that model."""
    return idempotency.digest(model_id, told.model_dump(mode="json", include={"name", "content_token", "sources"}))


def enclosed(
    plane: Plane, caller: Caller, job_id: str, told: Sequence[wire.KeyedArtifact]
) -> tuple[files.NewArtifact, ...]:
    """
    What came with a status update, ready to be added with it.

    Raises:
        NotFound: the caller has no such job.
        Invalid: as `check_with_blobs`.
    """
    if not told:
        return ()
    with plane.database.glance() as session:
        project_id, model_id = Board.place_of(session, caller, job_id)
    revisions = check_with_blobs(plane.blobs, project_id, told)
    return tuple(
        files.NewArtifact(one.key, asked_digest(model_id, one), revision, as_model=one.as_model)
        for one, revision in zip(told, revisions, strict=True)
    )


def _sent_with(told: wire.NewArtifact) -> Iterator[tuple[str, bytes]]:
    tokens = (told.content_token, told.properties_token)
    salts = {token.sha: {same.salt for same in tokens if same.sha == token.sha} for token in tokens}
    for sha, encoded in (told.blobs or {}).items():
        if sha not in salts:
            raise wrong("neither token of the revision names it", "body", "blobs", sha)
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise wrong("not base64", "body", "blobs", sha) from None
        if len(data) > wire.INLINE_BYTES:
            raise wrong(f"{len(data)} bytes; up to {wire.INLINE_BYTES} may come so", "body", "blobs", sha)
        if any(hashlib.sha384(data + salt.encode("ascii")).hexdigest() != sha for salt in salts[sha]):
            raise wrong("these bytes do not have this digest with a token's salt", "body", "blobs", sha)
        yield sha, data


def _measured(sha: str, data: bytes) -> Measured:
    return Measured(len(data), hashlib.sha256(data).hexdigest(), sha)
