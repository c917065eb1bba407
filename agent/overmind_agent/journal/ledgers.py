"""The journal's ledgers: files that are stored, uploads in parts that were begun, logs that are owed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from overmind_agent.jobs import Claim, ResultFile
from overmind_agent.journal.file import CLAIM, JournalFile, Synced, now_text, saying_what_must_be_said
from overmind_agent.ports import OwedLog


class LedgerTables(JournalFile):
    """Fills the ports UploadLedger and LogLedger, and notes which files are stored."""

    @saying_what_must_be_said
    def note_upload(self, claim: Claim, file: ResultFile, remote_id: str) -> None:
        """See Journal."""
        with self._write(Synced.NEVER) as db:
            db.execute(
                "INSERT OR REPLACE INTO upload VALUES (?, ?, ?, ?, ?)",
                (claim.job.id, claim.attempt, file.name, file.sha256, remote_id),
            )

    def uploaded(self, claim: Claim) -> Mapping[str, str]:
        """See Journal."""
        rows = self._all(
            "SELECT name, sha256 FROM upload WHERE job_id = ? AND attempt = ?", (claim.job.id, claim.attempt)
        )
        return {str(name): str(sha256) for name, sha256 in rows}

    def upload_id(self, key: str) -> str | None:
        """See UploadLedger."""
        row = self._one("SELECT upload_id FROM multipart WHERE key = ?", (key,))
        return str(row[0]) if row else None

    def note_upload_id(self, key: str, upload_id: str) -> None:
        """See UploadLedger."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO multipart VALUES (?, ?, ?)", (key, upload_id, now_text()))

    def forget_upload_id(self, key: str) -> None:
        """See UploadLedger."""
        with self._write() as db:
            db.execute("DELETE FROM multipart WHERE key = ?", (key,))

    def log_base(self, claim: Claim) -> int | None:
        """See LogLedger."""
        row = self._one(
            "SELECT base_bytes FROM log WHERE job_id = ? AND attempt = ?", (claim.job.id, claim.attempt)
        )
        return int(row[0]) if row else None

    def note_log(self, claim: Claim, base_bytes: int, *, is_owed: bool) -> None:
        """See LogLedger."""
        document = CLAIM.dump_json(claim).decode()
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?, ?)",
                (claim.job.id, claim.attempt, base_bytes, is_owed, document, now_text()),
            )

    def forget_log(self, claim: Claim) -> None:
        """See LogLedger."""
        with self._write() as db:
            db.execute("DELETE FROM log WHERE job_id = ? AND attempt = ?", (claim.job.id, claim.attempt))

    def owed_logs(self) -> Sequence[OwedLog]:
        """See LogLedger."""
        rows = self._all("SELECT document, base_bytes FROM log WHERE is_owed ORDER BY noted_at")
        return [OwedLog(CLAIM.validate_json(document), base_bytes) for document, base_bytes in rows]
