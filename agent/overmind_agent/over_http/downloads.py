"""The files that a job brings: its parameters and its input, each believed when it has its digest."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.errors import InvalidInput, RejectedError, TransientError
from overmind_agent.jobs import Job, RemoteFile
from overmind_agent.over_http.blob_store import FILE_URL
from overmind_agent.over_http.calls import HttpCalls, segment
from overmind_agent.over_http.given_files import GivenFiles
from overmind_agent.over_http.refusals import MIB, Verb
from overmind_agent.over_http.uploads import READ_MODEL
from overmind_executors import strict_json

DAMAGED_TRIES: Final = 3
DOWNLOAD: Final = Verb("download", 60, max_bytes=1024 * MIB)
PARAMETERS: Final = Verb("parameters", 60, max_bytes=8 * MIB)


class Downloads:
    """
    Fetches files, one at a time, in one thread.

    Args:
        given: those that came with a claim, which are not asked for.
    """

    def __init__(self, calls: HttpCalls, given: GivenFiles) -> None:
        self._calls = calls
        self._given = given
        self._damaged: Counter[str] = Counter()

    def read_parameters(self, job: Job) -> Mapping[str, Any]:
        """See ControlPlane."""
        size_bytes, most_bytes = job.parameters.size_bytes or 0, PARAMETERS.max_bytes
        if size_bytes > most_bytes:  # they are held in memory
            raise InvalidInput(f"parameters: {size_bytes:,} bytes, more than {most_bytes:,}; put rows into a file")
        fetched = io.BytesIO()
        self._fetch(PARAMETERS, job.parameters, fetched.write)
        try:
            found = strict_json.loads(fetched.getvalue() or b"{}")
        except strict_json.NotJson as error:
            raise InvalidInput(f"parameters: {error}") from error
        if not isinstance(found, dict):
            raise InvalidInput("parameters: must be a JSON object")
        return found

    def input_file(self, job: Job) -> RemoteFile | None:
        """See ControlPlane."""
        if job.model_id is None or not job.has_input:
            return None
        file = self._given.input_of(job)
        if file is None:
            answer = self._calls.call(READ_MODEL, "GET", f"/api/v2/models/{segment(job.model_id)}")
            file = wire.read_revision(wire.parse(wire.ModelFile, answer.body).file.revisions[-1])
        # A server without our `input` may give a job that has none a model over its parameters, to own its files.
        given = job.parameters
        return None if (file.sha, file.name) == (given.sha, given.name) else file

    def download(self, file: RemoteFile, destination: Path) -> None:
        """See ControlPlane."""
        part = destination.with_name(destination.name + ".part")
        try:
            with part.open("wb") as out:
                self._fetch(DOWNLOAD, file, out.write)
                out.flush()
                os.fsync(out.fileno())
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, verb: Verb, file: RemoteFile, write: Callable[[bytes], object]) -> None:
        if (given := self._given.content(file)) is not None:
            write(given)
            return
        digest = hashlib.sha384()

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            write(chunk)

        try:
            answer = self._calls.call(FILE_URL, "GET", f"/api/v2/tokens/{file.sha}/download-url")
            url = wire.parse(wire.TemporaryUrl, answer.body).url
            self._calls.get_blob(verb, url, take, file.size_bytes)
        except RejectedError as error:
            if error.http_status in (401, 403):
                raise
            if error.http_status is None and file.size_bytes is not None:
                raise self._damage(verb, file, "is longer than it should be") from error
            raise InvalidInput(f"the file {file.name!r} cannot be read: {error}") from error
        digest.update(file.salt.encode("ascii"))
        if digest.hexdigest() != file.sha:
            raise self._damage(verb, file, "does not have its digest")
        self._damaged.pop(file.sha, None)  # other jobs may have the same file

    def _damage(self, verb: Verb, file: RemoteFile, what: str) -> Exception:
        """
        The error for a file that arrived as something else.

        A transfer gone wrong, or the page of a portal in its place, looks like this as well as a damaged file: only
        the latter stays so.
        """
        self._damaged[file.sha] += 1
        if self._damaged[file.sha] >= DAMAGED_TRIES:
            return InvalidInput(f"the file {file.name!r} {what}, however often it is read")
        return TransientError(f"download: {file.name!r} {what}", verb=verb.name)
