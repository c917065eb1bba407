"""How a job looks to whoever gets it: with its lease and, where they are small, its parameters and its input."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.jobs import heartbeats
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.record.tables import Job
from overmind_controlplane.shown.jobs import show_jobs
from overmind_controlplane.storage import files
from overmind_controlplane.storage.blobs import Blobs


class HandingOver:
    """Shows jobs. What is read of the record is read in the caller's transaction, blobs are read after it."""

    def __init__(self, board: Board, blobs: Blobs) -> None:
        self._board = board
        self._blobs = blobs

    def show(self, session: Session, jobs: Sequence[Job], granted: Collection[str]) -> list[wire.Job]:
        """
        *jobs* in the same order.

        Args:
            granted: the ids of those that were claimed just now; where they are leased, they have their lease.
        """
        if not jobs:
            return []
        leased = {job.id for job in jobs if job.id in granted and job.is_leased}
        models = {job.model_id for job in jobs if job.id in leased and job.has_input}
        inputs = files.newest_of_models(session, models) if models else {}
        found = []
        for job, made in zip(jobs, show_jobs(session, jobs), strict=True):
            lease = {"lease": heartbeats.lease(self._board), "input_file": inputs.get(job.model_id)}
            found.append(made.model_copy(update=lease) if job.id in leased else made)
        return found

    def with_contents(self, job: wire.Job) -> wire.Job:
        """*job* with its parameters and its input, where they are small: whoever has a lease asks for them next."""
        if job.lease is None:
            return job
        update: dict[str, Any] = {"parameters": self._content(job, job.file.revisions[-1].content_token.sha)}
        if (found := job.input_file) is not None:
            update["input_file"] = found.model_copy(update={"content": self._content(job, found.sha)})
        return job.model_copy(update=update)

    def _content(self, job: wire.Job, sha: str) -> str | None:
        """The base64 of a blob, None of a larger one."""
        content = self._blobs.read(str(job.tenant_id), sha, limit=wire.INLINE_BYTES)
        return None if content is None else base64.b64encode(content).decode()
