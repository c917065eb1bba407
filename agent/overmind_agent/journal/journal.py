"""What the agent knows, in one SQLite file: claims, the outbox of statuses, uploads. See decision 0003."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Final

from overmind_agent.journal.claims import ClaimTable
from overmind_agent.journal.ledgers import LedgerTables
from overmind_agent.lifecycle import Status

KEEP_UNFINISHED: Final = timedelta(hours=24)
# What cannot be delivered waits so long, and takes no more room than this.
KEEP_WAITING: Final = timedelta(days=7)
WAITING_BYTES: Final = 256 * 1024 * 1024
# A job that is offered once more is known for so long; what was parked can be looked at until then.
KEEP_ENDED: Final = timedelta(days=14)


class SqliteJournal(ClaimTable, LedgerTables):
    """Fills the Journal port; and knows, over all of its tables, what is still needed and what may be forgotten."""

    def is_in_use(self, job_id: str) -> bool:
        """Whether *job_id* is at work here, or has something left to say."""
        row = self._one("SELECT state FROM claim WHERE job_id = ?", (job_id,))
        if row is None:
            return False
        waits = self._one("SELECT 1 FROM outbox WHERE job_id = ? AND fate IS NULL LIMIT 1", (job_id,))
        owed = self._one("SELECT 1 FROM log WHERE job_id = ? AND is_owed", (job_id,))
        return row[0] in ("intended", "held") or waits is not None or owed is not None

    def is_needed(self, job_id: str) -> bool:
        """
        Whether the folder of *job_id* may still be of use.

        Until its completion is delivered; a job that ended otherwise keeps its folder for a day, for whoever
        wants to know why, and because the control plane may hand the job to this agent again.
        """
        if self.is_in_use(job_id):
            return True
        row = self._one("SELECT changed_at FROM claim WHERE job_id = ?", (job_id,))
        is_done = self._one(
            "SELECT 1 FROM outbox WHERE job_id = ? AND status = ? AND fate = 'delivered'",
            (job_id, Status.COMPLETED),
        )
        if row is None or is_done:
            return False
        (changed_at,) = row
        return datetime.now(UTC) - datetime.fromisoformat(changed_at) < KEEP_UNFINISHED

    def prune(self, now: datetime | None = None, *, waiting_bytes: int = WAITING_BYTES) -> None:
        """
        Park what has waited for KEEP_WAITING or is more than *waiting_bytes*, the oldest first; and forget what
        ended so long ago that nobody will ask for it again.
        """
        now = now or datetime.now(UTC)
        old = (now - KEEP_WAITING).isoformat()
        with self._write() as db:
            for position, size_bytes in _too_much(db, waiting_bytes):
                db.execute(
                    "UPDATE outbox SET fate = 'refused', fate_why = ? WHERE position = ?",
                    (f"the outbox held {size_bytes} bytes of newer words, more than {waiting_bytes}", position),
                )
            db.execute(
                "UPDATE outbox SET fate = 'refused', fate_why = 'waited too long'"
                " WHERE fate IS NULL AND posted_at < ?",
                (old,),
            )
            ended = db.execute(
                "SELECT job_id FROM claim WHERE state IN ('ended', 'lost') AND changed_at < ?"
                " AND job_id NOT IN (SELECT job_id FROM outbox WHERE fate IS NULL)",
                ((now - KEEP_ENDED).isoformat(),),
            ).fetchall()
            for table in ("outbox", "upload", "log", "claim"):
                db.executemany(f"DELETE FROM {table} WHERE job_id = ?", ended)  # noqa: S608 - names of our own
            db.execute("DELETE FROM multipart WHERE begun_at < ?", (old,))
            db.execute("UPDATE log SET is_owed = 0 WHERE noted_at < ?", (old,))


def _too_much(db: sqlite3.Connection, waiting_bytes: int) -> list[tuple[int, int]]:
    """What waits behind *waiting_bytes* of newer words: its positions, and how many bytes those are."""
    found = db.execute(
        "SELECT position, behind FROM (SELECT position, sum(length(detail) + coalesce(length(message), 0))"
        " OVER (ORDER BY position DESC) AS behind FROM outbox WHERE fate IS NULL) WHERE behind > ?",
        (waiting_bytes,),
    )
    return [(int(position), int(behind)) for position, behind in found]
