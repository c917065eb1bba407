"""What agents and people say about jobs, carried out together where it comes together."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_agent.lifecycle import Status
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.jobs import claiming, heartbeats
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record import audit, idempotency
from overmind_controlplane.record.batches import Batches
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.tables import Job
from overmind_controlplane.shown.jobs import show_jobs
from overmind_controlplane.storage import files
from overmind_controlplane.storage.blobs import Blobs


@dataclass(frozen=True)
class Told:
    """
    One status update.

    Attributes:
        call: for the audit.
        is_terse: whether the caller knows the job already.
    """

    caller: Caller
    job_id: str
    word: Word
    call: audit.Asked | None
    is_terse: bool


class Reports:
    """Carries out status updates: each wholly or not at all, whatever becomes of those beside it."""

    def __init__(self, database: Database, board: Board, blobs: Blobs) -> None:
        self._database = database
        self._board = board
        self._blobs = blobs
        self._batches: Batches[Told, wire.Job | wire.Noted] = Batches(self._carry_out)

    @property
    def batched(self) -> tuple[int, int]:
        """How many batches there were, and how many calls in all of them."""
        return self._batches.batched

    async def say(
        self, caller: Caller, job_id: str, word: Word, *, is_terse: bool = False
    ) -> wire.Job | wire.Noted:
        """
        Carry out *word*; the job as it is then, or if asked for only that it was noted.

        Raises:
            Refused: as `Board.report` and `Board.cancel`.
        """
        return await self._batches.ask(Told(caller, job_id, word, audit.present_call(), is_terse))

    def _carry_out(self, told: Sequence[Told]) -> Sequence[wire.Job | wire.Noted | Exception]:
        try:
            return self._together(told)
        except Exception as error:
            if len(told) == 1 or self._database.store.is_away(error):
                return [error] * len(told)
        # One of them was refused, and the transaction is undone: each for itself.
        return [answer for one in told for answer in self._carry_out([one])]

    def _together(self, told: Sequence[Told]) -> Sequence[wire.Job | wire.Noted]:
        with self._database.write() as session:
            jobs = self._board.get_all(session, {one.job_id for one in told})
            said = [(self._board.of_caller(one.caller, jobs.get(one.job_id)), one) for one in told]
            known = claiming.look_up(session, [(job, one.word) for job, one in said])
            for job, one in said:
                self._say(session, job, one, known)
            idempotency.settle(session)
            whole = self._show(session, [(job, one.word) for job, one in said if not one.is_terse])
            answers = [
                wire.Noted(job_id=job.id, attempt=job.attempt) if one.is_terse else next(whole) for job, one in said
            ]
        return [self._with_contents(one) if isinstance(one, wire.Job) and one.lease else one for one in answers]

    def _say(self, session: Session, job: Job, one: Told, known: claiming.Known) -> None:
        before = job.updated
        word = one.word
        is_person = word.agent_id is None and word.attempt is None and word.sequence is None
        if word.status is Status.CANCELED and is_person:
            one.caller.must_be(Role.SUBMIT)
            self._board.cancel(session, one.caller, job, word.message)
        else:
            one.caller.must_be(Role.AGENT)
            self._board.report(session, one.caller, job, word, known)
        if one.call is not None and job.updated != before:
            audit.note(session, one.call, audit.GRANTED)

    def _show(self, session: Session, lines: Sequence[tuple[Job, Word]]) -> Iterator[wire.Job]:
        if not lines:
            return
        granted = {job.id for job, word in lines if word.status is Status.CLAIMED and job.is_leased}
        models = {job.model_id for job, _ in lines if job.id in granted and job.has_input}
        inputs = files.newest_of_models(session, models) if models else {}
        for (job, _), made in zip(lines, show_jobs(session, [job for job, _ in lines]), strict=True):
            lease = {"lease": heartbeats.lease(self._board), "input_file": inputs.get(job.model_id)}
            yield made.model_copy(update=lease) if job.id in granted else made

    def _with_contents(self, job: wire.Job) -> wire.Job:
        """*job* with its parameters and its input, where they are small: whoever has a lease asks for them next."""
        update: dict[str, Any] = {"parameters": self._content(job, job.file.revisions[-1].content_token.sha)}
        if (found := job.input_file) is not None:
            update["input_file"] = found.model_copy(update={"content": self._content(job, found.sha)})
        return job.model_copy(update=update)

    def _content(self, job: wire.Job, sha: str) -> str | None:
        """The base64 of a blob, None of a larger one."""
        content = self._blobs.read(str(job.tenant_id), sha, limit=wire.INLINE_BYTES)
        return None if content is None else base64.b64encode(content).decode()
