"""
The sweep: takes jobs back from agents whose lease ran out, frees what was offered and not claimed, and now and then
throws old records away.

Every server sweeps. One row of the database says who: whoever has locked it sweeps, and the others skip.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import Select, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE
from overmind_controlplane.jobs import agents, timers
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.waiting import project_topic
from overmind_controlplane.record import audit, idempotency
from overmind_controlplane.record.database import Database, ring
from overmind_controlplane.record.stores import StoreClock
from overmind_controlplane.record.tables import Job, Sweep, now
from overmind_controlplane.storage.blobs import Blobs

SWEEP_EVERY_S: Final = 1.0
PRUNE_EVERY: Final = timedelta(hours=1)
LONGEST_GAP_S: Final = 5.0
"""After a longer time without a sweep, leases are given anew; shorter where leases are shorter."""

_HELD: Final = tuple(status for status, stage in LIFECYCLE.items() if stage.is_held)
_ONLY: Final = 1

log = structlog.get_logger(__name__)


class Sweeper:
    """A thread that sweeps every second, more often where leases are short. Start it once, stop it once."""

    def __init__(self, database: Database, board: Board, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._board = board
        self._every_s = min(SWEEP_EVERY_S, board.lease_s / 4)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the sweep that is going on."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                sweep(self._database, self._board)
                if prune(self._database):
                    self._blobs.prune()
            except OSError as error:
                log.warning("sweep.failed", error=str(error))
            except SQLAlchemyError as error:
                # A full disk or an absent database today is no reason to sweep no more.
                log.warning("sweep.failed", exc_info=not self._database.store.is_away(error))


def sweep(database: Database, board: Board) -> int:
    """Take back every job whose lease ran out; how many there were. Nothing, while another server sweeps."""
    with database.note() as session:
        is_whole = _take_turn(session, board.lease_s)
        if is_whole:
            _free(session)
        due = is_whole and session.scalar(_due().limit(1)) is not None
    if not due:
        return 0
    # Another transaction, since that one may be lost. Rows that are locked are being reported on: the next sweep.
    with database.write() as session:
        lost = list(session.scalars(_due().with_for_update(skip_locked=True, key_share=True)))
        for job in lost:
            log.warning("job.lease_expired", job_id=job.id, attempt=job.attempt, agent_id=job.holder)
            board.lose(session, job)
    return len(lost)


def prune(database: Database) -> bool:
    """Throw away the records that are too old, once an hour, on one of the servers; whether it was this one."""
    with database.read() as session:
        is_due = session.scalar(select(Sweep.number).where(Sweep.pruned < now() - PRUNE_EVERY)) is not None
    if not is_due:
        return False
    with database.write() as session:
        turn = session.scalar(select(Sweep).with_for_update(skip_locked=True))
        if turn is None or turn.pruned is None or turn.pruned >= now() - PRUNE_EVERY:
            return False
        turn.pruned = now()
        for module in (idempotency, agents, audit):
            module.prune(session)
    return True


def _take_turn(session: Session, lease_s: float) -> bool:
    """
    Whether this server may sweep now: nobody else does, and nobody was absent for too long.

    After a gap all leases are given anew instead: their holders could not reach anybody.
    """
    clock_s = session.scalars(select(StoreClock())).one()
    turn = session.scalar(select(Sweep).where(Sweep.number == _ONLY).with_for_update(skip_locked=True))
    if turn is None:
        if session.scalar(select(Sweep.number)) is None:
            session.add(Sweep(number=_ONLY, swept_at=clock_s, pruned=now() - 2 * PRUNE_EVERY))
            timers.renew_all(session, lease_s)
        return False
    gap_s, turn.swept_at = clock_s - turn.swept_at, clock_s
    if 0 <= gap_s <= min(LONGEST_GAP_S, lease_s):
        return True
    log.info("leases.renewed", gap_s=round(gap_s, 3))
    timers.renew_all(session, lease_s)
    return False


def _free(session: Session) -> None:
    """Let others have what was offered and not claimed; they are told."""
    lapsed = select(Job.number, Job.project_id).where(Job.reserved_until <= StoreClock())
    found = session.execute(lapsed.with_for_update(skip_locked=True, key_share=True)).all()
    if found:
        numbers = [number for number, _ in found]
        session.execute(update(Job).where(Job.number.in_(numbers)).values(reserved_for=None, reserved_until=None))
        for project_id in {project_id for _, project_id in found}:
            ring(session, project_topic(project_id))


def _due() -> Select[Job]:
    return (
        select(Job).where(timers.has_run_out(), Job.is_leased.is_(True), Job.status.in_(_HELD)).order_by(Job.number)
    )
