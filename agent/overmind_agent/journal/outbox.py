"""The journal's outbox: statuses on their way, in order."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from overmind_agent.errors import JournalError
from overmind_agent.jobs import Claim, Enclosed, ResultFile, StatusUpdate
from overmind_agent.journal.file import ENCLOSED, JournalFile, Synced, now_text, saying_what_must_be_said
from overmind_agent.lifecycle import LIFECYCLE, Status, advance
from overmind_agent.ports import Parked, Posted, Tally


def _update(word: Sequence[Any], enclosed: Enclosed | None = None) -> StatusUpdate:
    job_id, attempt, sequence, status, message, detail = word
    return StatusUpdate(job_id, attempt, sequence, Status(status), message, json.loads(detail), enclosed)


class OutboxTable(JournalFile):
    """Fills the Outbox port."""

    @saying_what_must_be_said
    def post(
        self,
        claim: Claim,
        status: Status,
        *,
        message: str | None = None,
        detail: Mapping[str, Any] | None = None,
        files: Sequence[ResultFile] = (),
    ) -> None:
        """See Outbox."""
        key = (claim.job.id, claim.attempt)
        enclosed = self._folded(Enclosed(claim, tuple(files))) if files else None
        with self._write(Synced.BEFORE_TOLD) as db:
            sequence, last = db.execute(
                "SELECT sequence, status FROM outbox WHERE job_id = ? AND attempt = ?"
                " ORDER BY sequence DESC LIMIT 1",
                key,
            ).fetchone()
            advance(Status(last), status)
            db.execute(
                "INSERT INTO outbox (job_id, attempt, sequence, status, message, detail, posted_at, enclosed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, sequence + 1, status, message, json.dumps(dict(detail or {})), now_text(), enclosed),
            )
            if not LIFECYCLE[status].is_held:
                db.execute(
                    "UPDATE claim SET state = 'ended', changed_at = ? WHERE job_id = ?", (now_text(), claim.job.id)
                )

    def _folded(self, enclosed: Enclosed) -> str:
        """As it is kept: files by their place beside the journal, since a state folder may be moved."""
        here = self._path.parent
        near = [
            replace(f, path=f.path.relative_to(here)) if f.path.is_relative_to(here) else f for f in enclosed.files
        ]
        return ENCLOSED.dump_json(replace(enclosed, files=tuple(near))).decode()

    def _opened(self, folded: str | None) -> Enclosed | None:
        if folded is None:
            return None
        found = ENCLOSED.validate_json(folded)
        return replace(found, files=tuple(replace(f, path=self._path.parent / f.path) for f in found.files))

    def statuses(self, claim: Claim) -> Sequence[Status]:
        """See Outbox."""
        rows = self._all(
            "SELECT status FROM outbox WHERE job_id = ? AND attempt = ? ORDER BY sequence",
            (claim.job.id, claim.attempt),
        )
        return [Status(name) for (name,) in rows]

    def last_fate(self, job_id: str, attempt: int) -> str:
        """See Outbox."""
        row = self._one(
            "SELECT coalesce(fate, 'waiting') FROM outbox WHERE job_id = ? AND attempt = ?"
            " ORDER BY sequence DESC LIMIT 1",
            (job_id, attempt),
        )
        return str(row[0]) if row else "refused"

    def undelivered(self) -> Sequence[Posted]:
        """See Outbox."""
        rows = self._all(
            "SELECT position, posted_at, enclosed, job_id, attempt, sequence, status, message, detail FROM outbox"
            " WHERE fate IS NULL ORDER BY position"
        )
        if rows:
            self._sync_what_is_told()
        return [
            Posted(position, _update(word, self._opened(enclosed)), posted_at)
            for position, posted_at, enclosed, *word in rows
        ]

    @saying_what_must_be_said
    def delivered(self, posted: Posted) -> None:
        """See Outbox."""
        with self._write(Synced.NEVER) as db:
            db.execute("UPDATE outbox SET fate = 'delivered' WHERE position = ?", (posted.position,))

    @saying_what_must_be_said
    def refused(self, posted: Posted, why: str) -> None:
        """See Outbox."""
        update = posted.update
        with self._write() as db:
            db.execute(
                "UPDATE outbox SET fate = 'refused', fate_why = ?"
                " WHERE job_id = ? AND attempt = ? AND sequence >= ? AND fate IS NULL",
                (why, update.job_id, update.attempt, update.sequence),
            )
            db.execute(
                "UPDATE claim SET state = 'lost', changed_at = ?"
                " WHERE job_id = ? AND attempt = ? AND state = 'held'",
                (now_text(), update.job_id, update.attempt),
            )

    def parked(self) -> Sequence[Parked]:
        """See Outbox."""
        rows = self._all(
            "SELECT position, job_id, attempt, sequence, status, message, detail, coalesce(fate_why, ''), posted_at"
            " FROM outbox WHERE fate = 'refused' ORDER BY position"
        )
        return [Parked(position, _update(word), why, posted_at) for position, *word, why, posted_at in rows]

    def tally(self) -> Tally:
        """See Outbox."""
        waiting, oldest = self._one("SELECT count(*), min(posted_at) FROM outbox WHERE fate IS NULL")
        (parked,) = self._one("SELECT count(*) FROM outbox WHERE fate = 'refused'")
        return Tally(waiting, oldest, parked)

    def retry(self, position: int) -> bool:
        """See Outbox."""
        with self._write() as db:
            parked = db.execute(
                "SELECT job_id, attempt, sequence FROM outbox WHERE position = ? AND fate = 'refused'", (position,)
            ).fetchone()
            if parked is not None:
                db.execute(
                    "UPDATE outbox SET fate = NULL, fate_why = NULL, posted_at = ?"
                    " WHERE job_id = ? AND attempt = ? AND sequence >= ? AND fate = 'refused'",
                    (now_text(), *parked),
                )
        return parked is not None

    def wait_for_post(self, timeout_s: float) -> None:
        """See Outbox."""
        with self._outbox_changed:
            if not self._is_waiting():
                self._outbox_changed.wait(timeout_s)

    def gather(self, timeout_s: float) -> None:
        """See Outbox."""
        with self._outbox_changed:
            self._outbox_changed.wait_for(self._is_urgent, timeout_s)

    def wake(self) -> None:
        """See Outbox."""
        with self._outbox_changed:
            self._outbox_changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """See Outbox."""
        with self._outbox_changed:
            return self._outbox_changed.wait_for(lambda: not self._is_waiting(), timeout_s)

    def _is_waiting(self) -> bool:
        return bool(self._waiting("LIMIT 1"))

    def _is_urgent(self) -> bool:
        waiting = self._waiting()
        return not waiting or any(not LIFECYCLE[status].is_held for status in waiting)

    def _waiting(self, most: str = "") -> list[Status]:
        query = f"SELECT status FROM outbox WHERE fate IS NULL {most}"  # noqa: S608 - two words of our own
        try:
            return [Status(name) for (name,) in self._db.execute(query)]
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}") from error
