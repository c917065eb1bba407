"""A result file on its way: its bytes, what is said about them, and the artifact that names both."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from overmind_agent import wire
from overmind_agent.errors import ClaimLost, ProtocolError, TransientError, UploadError
from overmind_agent.files.result import must_be_whole, open_result
from overmind_agent.jobs import Claim, ResultFile
from overmind_agent.over_http.blob_store import COPY_BYTES_PER_S, BlobStore
from overmind_agent.over_http.calls import HttpCalls, segment
from overmind_agent.over_http.refusals import MIB, Verb
from overmind_agent.ports import UploadLedger

DAMAGED_TRIES: Final = 3

READ_MODEL: Final = Verb("read_model", 30, max_bytes=8 * MIB)
ARTIFACT: Final = Verb("artifact", 30, is_on_job=True)
ARTIFACTS: Final = Verb("artifacts", 60, is_on_job=True)


class ForgetfulLedger:
    """Fills the UploadLedger port for as long as the process lives."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def upload_id(self, key: str) -> str | None:
        """See UploadLedger."""
        return self._ids.get(key)

    def note_upload_id(self, key: str, upload_id: str) -> None:
        """See UploadLedger."""
        self._ids[key] = upload_id

    def forget_upload_id(self, key: str) -> None:
        """See UploadLedger."""
        self._ids.pop(key, None)


class Uploads:
    """
    Uploads result files, one at a time, in one thread.

    Args:
        has: whether the server has an extension.
        ledger: see BlobStore.
    """

    def __init__(self, calls: HttpCalls, *, has: Callable[[str], bool], ledger: UploadLedger) -> None:
        self._calls = calls
        self._has = has
        self._blobs = BlobStore(calls, lists_parts=lambda: has("declared_files"), ledger=ledger)
        self._damaged: Counter[str] = Counter()

    def upload(self, claim: Claim, file: ResultFile) -> str:
        """
        Store *file* as a result of the job; returns the artifact's id. Safe to repeat.

        Raises:
            ControlPlaneError: it did not go this time, or the job is not ours any more.
            UploadError: it will never go.
        """
        model_id = _model_of(claim)
        key, revision = self.described(claim, file)
        if (
            not self._has("fence")
            and (made := self._artifact_of(model_id, revision["content_token"]["sha"])) is not None
        ):
            return made  # the answer to an earlier try was lost, and without a key it would be a second one
        headers = {"Prefer": "return=minimal"}
        if self._has("fence"):
            headers |= {"Overmind-Attempt": str(claim.attempt), "Idempotency-Key": key}
        path = f"/api/v2/models/{segment(model_id)}/artifacts"
        wait_s = file.size_bytes / COPY_BYTES_PER_S
        try:
            answer = self._calls.call(ARTIFACT, "POST", path, body=revision, headers=headers, extra_s=wait_s)
        except ClaimLost as error:
            if error.http_status != 422:
                raise
            # The server has read the bytes, and they are not those that we sent: it threw them away.
            self._damaged[key] += 1
            if self._damaged[key] >= DAMAGED_TRIES:
                raise UploadError(f"{file.name!r} arrives damaged: {error}", reason="upload_corrupt") from error
            raise TransientError(f"upload: {error}", verb=ARTIFACT.name, http_status=422) from error
        return wire.parse(wire.Made, answer.body).id

    def upload_together(self, claim: Claim, files: Sequence[ResultFile]) -> Sequence[str] | None:
        """
        Store *files*, small ones, in one call; returns the artifacts' ids, None where the server has no such call.

        Raises:
            ControlPlaneError, UploadError: none of them went; as for `upload`.
        """
        if not all(map(self._has, ("several_files", "inline_files", "fence"))):
            return None
        told = [{**revision, "key": key} for key, revision in (self.described(claim, file) for file in files)]
        answer = self._calls.call(
            ARTIFACTS,
            "POST",
            f"/api/v2/models/{segment(_model_of(claim))}/artifacts/together",
            body={"artifacts": told},
            headers={"Overmind-Attempt": str(claim.attempt)},
        )
        made = wire.parse(wire.MadeArtifacts, answer.body).ids
        if len(made) != len(files):
            raise ProtocolError(f"{len(made)} answers to {len(files)} files")
        return made

    def described(self, claim: Claim, file: ResultFile) -> tuple[str, dict[str, Any]]:
        """The key of *file*, and the revision that names it; its bytes are in that, or have been sent."""
        job = claim.job
        # All of it follows from the file, so that a repeated upload is the same one to the server, also after a
        # restart: a body that differs under the same key is refused.
        key = hashlib.sha256(f"{job.id}/{claim.attempt}/{file.name}/{file.sha256}".encode()).hexdigest()
        salt = key[:32]
        properties = _properties(file)
        with open_result(file) as content:
            created = datetime.fromtimestamp(os.fstat(content.fileno()).st_mtime, UTC).isoformat()
            content_sha = _checked_key(content, file, salt)
            properties_sha = hashlib.sha384(properties + salt.encode("ascii")).hexdigest()
            blobs: dict[str, str] = {}
            if self._has("inline_files") and file.size_bytes <= wire.INLINE_BYTES:
                blobs[content_sha] = _base64(os.pread(content.fileno(), file.size_bytes, 0))
                blobs[properties_sha] = _base64(properties)
            else:
                self._blobs.put_file(content_sha, content, file.size_bytes, bytes.fromhex(file.sha256))
                self._blobs.put_bytes(properties_sha, properties)

        def named(part: str, **facts: Any) -> dict[str, Any]:
            return {"id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{key}/{part}")), "created": created, **facts}

        return key, named(
            "revision",
            content_token=named("content", sha=content_sha, salt=salt),
            properties_token=named("properties", sha=properties_sha, salt=salt),
            archive_status_history=[named("active", name="Active", reason="Initial")],
            name=file.name,
            extension=Path(file.name).suffix.removeprefix(".").lower(),
            size=file.size_bytes,
            sources=[{"revision_id": job.parameters.revision_id, "relationship_identifier": "job"}],
            **({"blobs": blobs} if blobs else {}),
            **({"as_model": True} if file.is_model and self._has("as_model") else {}),
        )

    def _artifact_of(self, model_id: str, content_sha: str) -> str | None:
        """The model's artifact with that content, None when there is none."""
        answer = self._calls.call(READ_MODEL, "GET", f"/api/v2/models/{segment(model_id)}")
        for artifact in wire.parse(wire.Model, answer.body).artifacts:
            if artifact.file.revisions[-1].content_token.sha == content_sha:
                return artifact.id
        return None


def _model_of(claim: Claim) -> str:
    if claim.job.model_id is None:
        raise UploadError("the control plane gave the job no model to attach result files to")
    return claim.job.model_id


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _checked_key(content: BinaryIO, file: ResultFile, salt: str) -> str:
    """
    The storage key of *content*: the hex SHA-384 of it and *salt*.

    Raises:
        UploadError: it is not what it was when the job ended.
    """
    key, plain = hashlib.sha384(), hashlib.sha256()
    while chunk := content.read(MIB):
        key.update(chunk)
        plain.update(chunk)
    must_be_whole(file, plain.hexdigest())
    key.update(salt.encode("ascii"))
    return key.hexdigest()


def _properties(file: ResultFile) -> bytes:
    """The properties blob, in the published client's form: these keys, in this order, nulls written."""
    about = {
        "file_name": file.name,
        "mime": None,
        "extension": Path(file.name).suffix.removeprefix(".").lower(),
        "size": file.size_bytes,
        "description": None,
        "version_name": None,
        "external_identifier": None,
        "display_name": None,
    }
    return json.dumps(about, separators=(",", ":")).encode()
