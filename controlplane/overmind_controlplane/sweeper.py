"""The sweep: takes jobs back from agents whose lease ran out, and now and then throws old records away."""

from __future__ import annotations

import threading
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from overmind_agent.lifecycle import LIFECYCLE
from overmind_controlplane import agents, idempotency
from overmind_controlplane.board import Board
from overmind_controlplane.database import Database
from overmind_controlplane.tables import Job

SWEEP_EVERY_S: Final = 5.0
PRUNE_EVERY_SWEEPS: Final = 720

_HELD: Final = tuple(status for status, stage in LIFECYCLE.items() if stage.is_held)

log = structlog.get_logger(__name__)


class Sweeper:
    """A thread that sweeps every five seconds, more often where leases are short. Start it once, stop it once."""

    def __init__(self, database: Database, board: Board) -> None:
        self._database = database
        self._board = board
        self._every_s = min(SWEEP_EVERY_S, board.leases.lease_s / 4)
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
        sweeps = 0
        while not self._stopping.wait(self._every_s):
            try:
                sweep(self._database, self._board)
                if sweeps % PRUNE_EVERY_SWEEPS == 0:
                    self._prune()
            except SQLAlchemyError:
                log.exception("sweep.failed")  # a full disk today is no reason to sweep no more
            sweeps += 1

    def _prune(self) -> None:
        with self._database.write() as session:
            idempotency.prune(session)
            agents.prune(session)


def sweep(database: Database, board: Board) -> int:
    """Take back every job whose lease ran out; how many there were."""
    with database.read() as session:
        due = _due(session, board)
    if not due:
        return 0
    # Between the two transactions a heartbeat may have come: only what is due inside the second one is taken.
    with database.write() as session:
        lost = _due(session, board)
        for job in lost:
            log.warning("job.lease_expired", job_id=job.id, attempt=job.attempt, agent_id=job.holder)
            board.lose(session, job)
    return len(lost)


def _due(session: Session, board: Board) -> list[Job]:
    leased = list(session.scalars(select(Job).where(Job.is_leased.is_(True), Job.status.in_(_HELD))))
    board.leases.keep_only({(job.id, job.attempt) for job in leased})
    return [job for job in leased if board.leases.has_run_out((job.id, job.attempt))]
