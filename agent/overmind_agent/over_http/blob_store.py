"""
Puts one blob into the control plane's storage: small ones in one piece, large ones in parts.

Parts that have arrived are not sent again, also not after a restart, where the server lists them. A server that
does not list them is believed for as long as this process remembers what it answered.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from overmind_agent import wire
from overmind_agent.errors import RejectedError, TransientError, UploadError
from overmind_agent.over_http.calls import HttpCalls, content_digest
from overmind_agent.over_http.refusals import MIB, Verb
from overmind_agent.ports import UploadLedger

# A file up to this goes in one piece; a longer one in parts.
WHOLE_BYTES: Final = 32 * MIB
PART_BYTES: Final = 16 * MIB
MOST_PARTS: Final = 10_000
# A server puts the parts together, or reads a file again, at least this fast.
COPY_BYTES_PER_S: Final = 8 * MIB
TOO_LARGE: Final = 413
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

FILE_URL: Final = Verb("file_url", 15)
PARTS: Final = Verb("parts", 30, max_bytes=16 * MIB)
UPLOAD: Final = Verb("upload", 60, accepts=frozenset({200, 201, 202, 204}))


class Slice:
    """A stretch of an open file as a request's body; refuses a file that became shorter."""

    def __init__(self, file: BinaryIO, start: int, size_bytes: int) -> None:
        self._descriptor = file.fileno()
        self._at = start
        self._end = start + size_bytes

    def __len__(self) -> int:
        return self._end - self._at

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(MIB):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """
        The next bytes, none at the end.

        Raises:
            UploadError: the file ends before the stretch does.
        """
        wanted = len(self) if size < 0 else min(size, len(self))
        chunk = os.pread(self._descriptor, wanted, self._at)
        if wanted and not chunk:
            raise UploadError("a result file became shorter while it was uploaded", reason="output_changed")
        self._at += len(chunk)
        return chunk

    def digest(self) -> bytes:
        """The SHA-256 of what is left of it; reads it, and stays where it was."""
        copy, sha256 = Slice.__new__(Slice), hashlib.sha256()
        copy.__dict__.update(self.__dict__)
        for chunk in copy:
            sha256.update(chunk)
        return sha256.digest()


@dataclass
class _Parts:
    """An upload under way: where its parts go, and the tags of those that have arrived."""

    upload_id: str
    urls: dict[str, str]
    tags: dict[int, str] = field(default_factory=dict)


class BlobStore:
    """
    The storage of one control plane, for one thread.

    Args:
        lists_parts: whether the server says which parts have arrived.
        ledger: where the ids of uploads that are under way are kept over a restart.
        part_bytes: of each part but the last.
        whole_bytes: the longest file that goes in one piece.
    """

    def __init__(
        self,
        calls: HttpCalls,
        *,
        lists_parts: Callable[[], bool],
        ledger: UploadLedger,
        part_bytes: int = PART_BYTES,
        whole_bytes: int = WHOLE_BYTES,
    ) -> None:
        self._calls = calls
        self._lists_parts = lists_parts
        self._ledger = ledger
        self._part_bytes = part_bytes
        self._whole_bytes = whole_bytes
        self._remembered: dict[str, _Parts] = {}

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store *content* as the blob *key*, unless it is there."""
        self._put_whole(key, content, hashlib.sha256(content).digest())

    def put_file(self, key: str, file: BinaryIO, size_bytes: int, sha256: bytes) -> None:
        """
        Store *file* as the blob *key*, unless it is there. Safe to repeat; what has arrived is not sent again.

        Raises:
            ControlPlaneError: it did not go this time.
            UploadError: it will never go.
        """
        if size_bytes <= self._whole_bytes:
            self._put_whole(key, Slice(file, 0, size_bytes), sha256)
        else:
            self._put_parts(key, file, size_bytes)

    def _put_whole(self, key: str, content: bytes | Slice, sha256: bytes) -> None:
        try:
            answer = self._calls.call(FILE_URL, "GET", f"/api/v2/tokens/{key}/upload-url")
        except RejectedError as error:
            if error.http_status == 409:  # stored already
                return
            raise
        self._send(wire.parse(wire.TemporaryUrl, answer.body).url, content, sha256)

    def _send(self, url: str, content: bytes | Slice, sha256: bytes) -> str:
        """Send one piece; returns the tag that it was answered with."""
        headers = {"Content-Digest": content_digest(sha256)}
        try:
            tag = self._calls.put_blob(UPLOAD, url, content, headers=headers)
        except RejectedError as error:
            if error.http_status in (401, 403):
                raise
            if error.http_status == 412:
                raise TransientError("upload: it arrived damaged", verb=UPLOAD.name, http_status=412) from error
            reason = "output_too_large" if error.http_status == TOO_LARGE else None
            raise UploadError(str(error), reason=reason) from error
        # Our control plane's tags are digests; another one's say nothing.
        if _SHA256.fullmatch(tag) and tag != sha256.hex():
            raise TransientError("upload: it arrived damaged", verb=UPLOAD.name)
        return tag

    # ------------------------------------------------------------------------------------- in parts

    def _put_parts(self, key: str, file: BinaryIO, size_bytes: int) -> None:
        part_bytes = max(self._part_bytes, -(-size_bytes // MOST_PARTS))
        starts = range(0, size_bytes, part_bytes)
        slices = {
            number: (start, min(part_bytes, size_bytes - start)) for number, start in enumerate(starts, start=1)
        }
        parts = self._go_on(key, file, slices) or self._begin(key, len(slices))
        if parts is None:
            return
        for number in sorted(slices.keys() - parts.tags.keys()):
            part = Slice(file, *slices[number])
            try:
                parts.tags[number] = self._send(parts.urls[str(number)], part, part.digest())
            except TransientError as error:
                if error.http_status in (401, 403):  # its address has expired: new ones come with the next try
                    self._remembered.pop(key, None)
                raise
        self._complete(key, parts, size_bytes)

    def _begin(self, key: str, number: int) -> _Parts | None:
        """A new upload; None when the blob is there already."""
        try:
            body = {"sha": key, "num_parts": number}
            answer = self._calls.call(PARTS, "POST", "/api/v2/tokens/multipart-upload", body=body)
        except RejectedError as error:
            if error.http_status == 409:
                return None
            raise
        found = wire.parse(wire.MultipartUpload, answer.body)
        parts = _Parts(found.upload_id, {name: url.url for name, url in found.upload_urls.items()})
        self._remember(key, parts)
        return parts

    def _remember(self, key: str, parts: _Parts) -> None:
        if self._lists_parts():
            self._ledger.note_upload_id(key, parts.upload_id)
        else:
            self._remembered[key] = parts

    def _forget(self, key: str) -> None:
        self._remembered.pop(key, None)
        self._ledger.forget_upload_id(key)

    def _go_on(self, key: str, file: BinaryIO, slices: dict[int, tuple[int, int]]) -> _Parts | None:
        """The upload that was begun earlier, None when there is none, or none that can be gone on with."""
        if not self._lists_parts():
            return self._remembered.get(key)
        upload_id = self._ledger.upload_id(key)
        if upload_id is None:
            return None
        query: dict[str, str | int | float] = {"sha": key, "upload_id": upload_id, "num_parts": len(slices)}
        try:
            answer = self._calls.call(PARTS, "GET", "/api/v2/tokens/multipart-upload", query=query)
        except RejectedError as error:
            if error.http_status != 404:
                raise
            self._forget(key)
            return None
        found = wire.parse(wire.MultipartUpload, answer.body)
        tags = {part.PartNumber: part.ETag.strip('"') for part in found.parts}
        if not all(_is_ours(file, slices.get(part.PartNumber), part) for part in found.parts):
            self._cancel(key, upload_id)
            return None
        return _Parts(upload_id, {name: url.url for name, url in found.upload_urls.items()}, tags)

    def _complete(self, key: str, parts: _Parts, size_bytes: int) -> None:
        named = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(parts.tags.items())]
        body = {"action": "complete", "sha": key, "upload_id": parts.upload_id, "completed_parts": named}
        wait_s = size_bytes / COPY_BYTES_PER_S
        try:
            self._calls.call(PARTS, "PUT", "/api/v2/tokens/multipart-upload", body=body, extra_s=wait_s)
        except RejectedError as error:
            if error.http_status not in (404, 422):
                raise
            # Put together already, or the parts are not what they were: a new upload finds out which.
            self._forget(key)
            raise TransientError(f"upload: {error}", verb=PARTS.name, http_status=error.http_status) from error
        self._forget(key)

    def _cancel(self, key: str, upload_id: str) -> None:
        self._forget(key)
        body = {"action": "cancel", "sha": key, "upload_id": upload_id, "completed_parts": None}
        self._calls.call(PARTS, "PUT", "/api/v2/tokens/multipart-upload", body=body)


def _is_ours(file: BinaryIO, place: tuple[int, int] | None, part: wire.ArrivedPart) -> bool:
    """Whether *part* is that stretch of *file*, as far as the server tells."""
    if place is None or part.Size != place[1]:
        return False
    tag = part.ETag.strip('"')
    return not _SHA256.fullmatch(tag) or tag == Slice(file, *place).digest().hex()
