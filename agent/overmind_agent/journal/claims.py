"""The journal's claims: which jobs this agent asked for, holds, has ended or has lost; and who it is."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from overmind_agent.jobs import Claim, Job
from overmind_agent.journal.file import CLAIM, JOB, Synced, now_text, saying_what_must_be_said
from overmind_agent.journal.outbox import OutboxTable
from overmind_agent.lifecycle import LIFECYCLE, Status

_CLAIM_KEY: Final = "claim_key"


class ClaimTable(OutboxTable):
    """Claims, over the outbox: a claim's first status is in the same transaction, and so is what ends it."""

    def agent_id(self) -> str | None:
        """See Journal."""
        return self.recall("agent_id")

    @saying_what_must_be_said
    def remember_agent(self, agent_id: str) -> None:
        """See Journal."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO identity VALUES ('agent_id', ?)", (agent_id,))

    def recall(self, name: str) -> str | None:
        """What was last remembered under *name*."""
        row = self._one("SELECT value FROM identity WHERE name = ?", (name,))
        return str(row[0]) if row else None

    def remember(self, name: str, value: str, *, synced: bool = False) -> None:
        """Keep *value* for the next start; without a sync, so that it may be done often, unless *synced*."""
        with self._write(Synced.NOW if synced else Synced.NEVER) as db:
            db.execute("INSERT OR REPLACE INTO identity VALUES (?, ?)", (name, value))

    @saying_what_must_be_said
    def intend(self, job: Job, key: str) -> None:
        """See Journal."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO claim VALUES (?, ?, 'intended', NULL, ?, ?)",
                (job.id, key, JOB.dump_json(job).decode(), now_text()),
            )

    @saying_what_must_be_said
    def claim_key(self) -> str:
        """See Journal."""
        if (known := self.recall(_CLAIM_KEY)) is not None:
            return known
        key = str(uuid.uuid4())
        self.remember(_CLAIM_KEY, key, synced=True)
        return key

    def spend(self, key: str) -> None:
        """See Journal."""
        with self._write(Synced.BEFORE_TOLD) as db:
            db.execute("DELETE FROM identity WHERE name = ? AND value = ?", (_CLAIM_KEY, key))

    @saying_what_must_be_said
    def hold(self, claim: Claim, *, key: str | None = None) -> bool:
        """See Journal."""
        said = self.statuses(claim)
        if said and not LIFECYCLE[said[-1]].is_held:
            self._say_again(claim)
            return False
        # The intention, or the key, is on disk, and brings the same grant again.
        with self._write(Synced.BEFORE_TOLD) as db:
            document, now = CLAIM.dump_json(claim).decode(), now_text()
            if key is not None:
                db.execute("DELETE FROM identity WHERE name = ? AND value = ?", (_CLAIM_KEY, key))
                db.execute(
                    "INSERT OR REPLACE INTO claim VALUES (?, ?, 'held', ?, ?, ?)",
                    (claim.job.id, key, claim.attempt, document, now),
                )
            db.execute(
                "UPDATE claim SET state = 'held', attempt = ?, document = ?, changed_at = ? WHERE job_id = ?",
                (claim.attempt, document, now, claim.job.id),
            )
            db.execute(
                "INSERT OR IGNORE INTO outbox (job_id, attempt, sequence, status, detail, posted_at, fate)"
                " VALUES (?, ?, 0, ?, '{}', ?, 'delivered')",
                (claim.job.id, claim.attempt, Status.CLAIMED, now_text()),
            )
        return True

    def _say_again(self, claim: Claim) -> None:
        with self._write() as db:
            db.execute(
                "UPDATE outbox SET fate = NULL WHERE job_id = ? AND attempt = ? AND sequence > 0",
                (claim.job.id, claim.attempt),
            )
            db.execute(
                "UPDATE claim SET state = 'ended', changed_at = ? WHERE job_id = ?", (now_text(), claim.job.id)
            )

    @saying_what_must_be_said
    def not_granted(self, job_id: str) -> None:
        """See Journal."""
        with self._write() as db:
            db.execute(
                "UPDATE claim SET state = 'lost', changed_at = ? WHERE job_id = ? AND state = 'intended'",
                (now_text(), job_id),
            )

    @saying_what_must_be_said
    def lose(self, claim: Claim) -> None:
        """See Journal."""
        which = (claim.job.id, claim.attempt)
        with self._write() as db:
            db.execute(
                "UPDATE outbox SET fate = 'refused', fate_why = 'claim lost'"
                " WHERE job_id = ? AND attempt = ? AND fate IS NULL",
                which,
            )
            db.execute(
                "UPDATE claim SET state = 'lost', changed_at = ?"
                " WHERE job_id = ? AND attempt = ? AND state = 'held'",
                (now_text(), *which),
            )

    def intended(self) -> Sequence[tuple[Job, str]]:
        """See Journal."""
        rows = self._all("SELECT document, claim_key FROM claim WHERE state = 'intended' ORDER BY changed_at")
        return [(JOB.validate_json(document), str(key)) for document, key in rows]

    def held(self) -> Sequence[Claim]:
        """See Journal."""
        rows = self._all("SELECT document FROM claim WHERE state = 'held' ORDER BY changed_at")
        return [CLAIM.validate_json(document) for (document,) in rows]

    def leased(self) -> Sequence[Claim]:
        """Jobs whose leases are worth keeping: those that have not ended, and those whose last word waits."""
        rows = self._all(
            "SELECT document FROM claim WHERE state = 'held' OR (state = 'ended' AND EXISTS"
            " (SELECT 1 FROM outbox WHERE outbox.job_id = claim.job_id AND outbox.attempt = claim.attempt"
            " AND fate IS NULL)) ORDER BY changed_at"
        )
        return [CLAIM.validate_json(document) for (document,) in rows]
