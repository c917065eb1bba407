"""What agents and people say about jobs, carried out together where it comes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_agent.lifecycle import Status
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.jobs import claiming
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.handing_over import HandingOver
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record import audit, idempotency
from overmind_controlplane.record.batches import Batches
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.tables import Job


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

    def __init__(self, database: Database, board: Board, handing_over: HandingOver) -> None:
        self._database = database
        self._board = board
        self._handing_over = handing_over
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
            whole = [(job, one.word) for job, one in said if not one.is_terse]
            granted = {job.id for job, word in whole if word.status is Status.CLAIMED}
            shown = iter(self._handing_over.show(session, [job for job, _ in whole], granted))
            answers = [
                wire.Noted(job_id=job.id, attempt=job.attempt) if one.is_terse else next(shown) for job, one in said
            ]
        return [self._handing_over.with_contents(one) if isinstance(one, wire.Job) else one for one in answers]

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
