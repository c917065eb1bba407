"""The files of a job that came with the answer to its claim, so that nobody has to ask for them."""

from __future__ import annotations

import base64
import hashlib

from overmind_agent import wire
from overmind_agent.jobs import Job, RemoteFile


class GivenFiles:
    """
    Those of the job that was claimed last. For one thread.

    Nothing is believed: a content that does not have its digest counts as not given. Each is given once, so that it
    does not stay in memory.
    """

    def __init__(self) -> None:
        self._job_id = ""
        self._input: RemoteFile | None = None
        self._contents: dict[str, str] = {}

    def take(self, job: Job, found: wire.Job) -> None:
        """Keep what came with *found*, the answer to the claim of *job*."""
        self._job_id, self._input, self._contents = job.id, None, {}
        if found.parameters is not None:
            self._contents[job.parameters.sha] = found.parameters
        if (told := found.input_file) is not None:
            self._input = RemoteFile(told.name or "file", told.sha, told.salt, told.size, told.revision_id)
            if told.content is not None:
                self._contents[told.sha] = told.content

    def input_of(self, job: Job) -> RemoteFile | None:
        """What is in the job's model, None when that is to be asked for."""
        return self._input if job.id == self._job_id else None

    def content(self, file: RemoteFile) -> bytes | None:
        """The bytes of *file*, None when they are to be asked for."""
        try:
            content = base64.b64decode(self._contents.pop(file.sha, "!"), validate=True)
        except ValueError:
            return None
        digest = hashlib.sha384(content + file.salt.encode("ascii")).hexdigest()
        return content if digest == file.sha else None
