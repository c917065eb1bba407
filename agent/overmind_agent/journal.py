"""What the agent knows, in one SQLite file: claims, the outbox of statuses, uploads. See decision 0003."""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from pydantic import TypeAdapter, ValidationError

from overmind_agent.errors import JournalError
from overmind_agent.jobs import Claim, Job, ResultFile, StatusUpdate
from overmind_agent.lifecycle import LIFECYCLE, Status, advance
from overmind_agent.ports import OwedLog, Parked, Posted

KEEP_UNFINISHED: Final = timedelta(hours=24)
# What cannot be delivered waits so long, and takes no more room than this.
KEEP_WAITING: Final = timedelta(days=7)
WAITING_BYTES: Final = 256 * 1024 * 1024
# A job that is offered once more is known for so long; what was parked can be looked at until then.
KEEP_ENDED: Final = timedelta(days=14)
FIRST: Final = """
CREATE TABLE identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
-- one row for each job that was ever claimed here; state: intended, held, ended, lost
CREATE TABLE claim (
    job_id TEXT PRIMARY KEY, claim_key TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER,
    document TEXT NOT NULL, changed_at TEXT NOT NULL
) STRICT;
-- sequence 0 is the claim itself, which is never sent from here; fate: NULL while it waits, delivered, refused
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, attempt INTEGER NOT NULL,
    sequence INTEGER NOT NULL, status TEXT NOT NULL, message TEXT, detail TEXT NOT NULL,
    posted_at TEXT NOT NULL, fate TEXT, fate_why TEXT,
    UNIQUE (job_id, attempt, sequence)
) STRICT;
CREATE INDEX outbox_waiting ON outbox (position) WHERE fate IS NULL;
CREATE TABLE upload (
    job_id TEXT NOT NULL, attempt INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL,
    remote_id TEXT NOT NULL, PRIMARY KEY (job_id, attempt, name)
) STRICT;
"""
SECOND: Final = """
-- uploads in parts that are under way, by the storage key of their blob
CREATE TABLE multipart (key TEXT PRIMARY KEY, upload_id TEXT NOT NULL, begun_at TEXT NOT NULL) STRICT;
"""
THIRD: Final = """
-- of logs that are no plain ones: how much of the remote log lies before ours; is_owed: the job has ended
CREATE TABLE log (
    job_id TEXT NOT NULL, attempt INTEGER NOT NULL, base_bytes INTEGER NOT NULL, is_owed INTEGER NOT NULL,
    document TEXT NOT NULL, noted_at TEXT NOT NULL, PRIMARY KEY (job_id, attempt)
) STRICT;
"""
# What makes each version of the schema out of the one before.
STEPS: Final = (FIRST, SECOND, THIRD)
SCHEMA_VERSION: Final = len(STEPS)
# Each pragma is read back: a file system on which it does not hold cannot keep our promises.
PRAGMAS: Final = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}

_DISK_ERRORS: Final = (
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_PERM",
    "SQLITE_READONLY",
)
# The second when the index of the write-ahead log cannot grow.
_FULL: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")
_JOB: Final = TypeAdapter(Job)
_CLAIM: Final = TypeAdapter(Claim)


P = ParamSpec("P")
T = TypeVar("T")


def _saying_what_must_be_said(
    method: Callable[Concatenate[SqliteJournal, P], T],
) -> Callable[Concatenate[SqliteJournal, P], T]:
    """A write that finds the disk full is tried once more with the room that was kept back for it."""

    @functools.wraps(method)
    def write(journal: SqliteJournal, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(journal, *args, **kwargs)
        except JournalError as error:
            if not (_name_of(error.__cause__) in _FULL and journal._make_room()):
                raise
        return method(journal, *args, **kwargs)

    return write


class SqliteJournal:
    """
    Fills the Journal port.

    A commit is durable (`synchronous=FULL`) before a method returns. That a status was delivered, or a file stored,
    may be forgotten in a power cut: both may be said again, so it costs no sync. Does not own the state folder's
    lock: one process has the folder to itself before it opens the journal.

    Args:
        path: created with mode 0600 when missing. A damaged file is set aside as `<name>.corrupt-<time>`.
        on_set_aside: told the new path when that happens.
        make_room: called when a write finds the disk full; whether there is room now, so that it is tried again.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_set_aside: Callable[[Path], None] = lambda _: None,
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._path = path
        self._make_room = make_room
        self._is_suspect = False
        self._lock = threading.Lock()
        self._outbox_changed = threading.Condition(self._lock)
        try:
            self._db = _open(path)
        except (sqlite3.Error, ValueError) as error:
            if _is_of_the_disk(error):
                raise JournalError(f"{path} cannot be opened: {error}") from error
            on_set_aside(_set_aside(path))
            self._db = _open(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # ------------------------------------------------------------------------------------------ identity

    def agent_id(self) -> str | None:
        """See Journal."""
        row = self._one("SELECT value FROM identity WHERE name = 'agent_id'")
        return str(row[0]) if row else None

    @_saying_what_must_be_said
    def remember_agent(self, agent_id: str) -> None:
        """See Journal."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO identity VALUES ('agent_id', ?)", (agent_id,))

    # ------------------------------------------------------------------------------------------ claims

    @_saying_what_must_be_said
    def intend(self, job: Job, key: str) -> None:
        """See Journal."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO claim VALUES (?, ?, 'intended', NULL, ?, ?)",
                (job.id, key, _JOB.dump_json(job).decode(), _now()),
            )

    @_saying_what_must_be_said
    def hold(self, claim: Claim) -> bool:
        """See Journal."""
        said = self.statuses(claim)
        if said and not LIFECYCLE[said[-1]].is_held:
            self._say_again(claim)
            return False
        with self._write() as db:
            db.execute(
                "UPDATE claim SET state = 'held', attempt = ?, document = ?, changed_at = ? WHERE job_id = ?",
                (claim.attempt, _CLAIM.dump_json(claim).decode(), _now(), claim.job.id),
            )
            db.execute(
                "INSERT OR IGNORE INTO outbox (job_id, attempt, sequence, status, detail, posted_at, fate)"
                " VALUES (?, ?, 0, ?, '{}', ?, 'delivered')",
                (claim.job.id, claim.attempt, Status.CLAIMED, _now()),
            )
        return True

    def _say_again(self, claim: Claim) -> None:
        with self._write() as db:
            db.execute(
                "UPDATE outbox SET fate = NULL WHERE job_id = ? AND attempt = ? AND sequence > 0",
                (claim.job.id, claim.attempt),
            )
            db.execute("UPDATE claim SET state = 'ended', changed_at = ? WHERE job_id = ?", (_now(), claim.job.id))

    @_saying_what_must_be_said
    def lose(self, job_id: str) -> None:
        """See Journal."""
        with self._write() as db:
            db.execute(
                "UPDATE outbox SET fate = 'refused', fate_why = 'claim lost' WHERE job_id = ? AND fate IS NULL",
                (job_id,),
            )
            db.execute(
                "UPDATE claim SET state = 'lost', changed_at = ?"
                " WHERE job_id = ? AND state IN ('intended', 'held')",
                (_now(), job_id),
            )

    def intended(self) -> Sequence[tuple[Job, str]]:
        """See Journal."""
        rows = self._all("SELECT document, claim_key FROM claim WHERE state = 'intended' ORDER BY changed_at")
        return [(_JOB.validate_json(document), str(key)) for document, key in rows]

    def held(self) -> Sequence[Claim]:
        """See Journal."""
        rows = self._all("SELECT document FROM claim WHERE state = 'held' ORDER BY changed_at")
        return [_CLAIM.validate_json(document) for (document,) in rows]

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

    # ------------------------------------------------------------------------------------------ outbox

    @_saying_what_must_be_said
    def post(
        self, claim: Claim, status: Status, *, message: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        """See Outbox."""
        key = (claim.job.id, claim.attempt)
        with self._write() as db:
            sequence, last = db.execute(
                "SELECT sequence, status FROM outbox WHERE job_id = ? AND attempt = ?"
                " ORDER BY sequence DESC LIMIT 1",
                key,
            ).fetchone()
            advance(Status(last), status)
            db.execute(
                "INSERT INTO outbox (job_id, attempt, sequence, status, message, detail, posted_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, sequence + 1, status, message, json.dumps(dict(detail or {})), _now()),
            )
            if not LIFECYCLE[status].is_held:
                db.execute(
                    "UPDATE claim SET state = 'ended', changed_at = ? WHERE job_id = ?", (_now(), claim.job.id)
                )

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
            "SELECT min(position), job_id, attempt, sequence, status, message, detail FROM outbox"
            " WHERE fate IS NULL GROUP BY job_id ORDER BY 1"
        )
        return [
            Posted(position, StatusUpdate(job_id, attempt, sequence, Status(status), message, json.loads(detail)))
            for position, job_id, attempt, sequence, status, message, detail in rows
        ]

    @_saying_what_must_be_said
    def delivered(self, posted: Posted) -> None:
        """See Outbox."""
        with self._write(synced=False) as db:
            db.execute("UPDATE outbox SET fate = 'delivered' WHERE position = ?", (posted.position,))

    @_saying_what_must_be_said
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
                (_now(), update.job_id, update.attempt),
            )

    def parked(self) -> Sequence[Parked]:
        """See Outbox."""
        rows = self._all(
            "SELECT position, job_id, attempt, sequence, status, message, detail, coalesce(fate_why, ''), posted_at"
            " FROM outbox WHERE fate = 'refused' ORDER BY position"
        )
        return [
            Parked(
                position, StatusUpdate(job_id, attempt, sequence, Status(status), message, json.loads(detail)), *why
            )
            for position, job_id, attempt, sequence, status, message, detail, *why in rows
        ]

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
                    (_now(), *parked),
                )
        return parked is not None

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

    def wait_for_post(self, timeout_s: float) -> None:
        """See Outbox."""
        with self._outbox_changed:
            if not self._is_waiting():
                self._outbox_changed.wait(timeout_s)

    def wake(self) -> None:
        """See Outbox."""
        with self._outbox_changed:
            self._outbox_changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """See Outbox."""
        with self._outbox_changed:
            return self._outbox_changed.wait_for(lambda: not self._is_waiting(), timeout_s)

    def _is_waiting(self) -> bool:
        query = "SELECT 1 FROM outbox WHERE fate IS NULL LIMIT 1"
        try:
            return self._db.execute(query).fetchone() is not None
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}") from error

    # ------------------------------------------------------------------------------------------ uploads

    @_saying_what_must_be_said
    def note_upload(self, claim: Claim, file: ResultFile, remote_id: str) -> None:
        """See Journal."""
        with self._write(synced=False) as db:
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
            db.execute("INSERT OR REPLACE INTO multipart VALUES (?, ?, ?)", (key, upload_id, _now()))

    def forget_upload_id(self, key: str) -> None:
        """See UploadLedger."""
        with self._write() as db:
            db.execute("DELETE FROM multipart WHERE key = ?", (key,))

    # ------------------------------------------------------------------------------------------ logs

    def log_base(self, claim: Claim) -> int | None:
        """See LogLedger."""
        row = self._one(
            "SELECT base_bytes FROM log WHERE job_id = ? AND attempt = ?", (claim.job.id, claim.attempt)
        )
        return int(row[0]) if row else None

    def note_log(self, claim: Claim, base_bytes: int, *, is_owed: bool) -> None:
        """See LogLedger."""
        document = _CLAIM.dump_json(claim).decode()
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?, ?)",
                (claim.job.id, claim.attempt, base_bytes, is_owed, document, _now()),
            )

    def forget_log(self, claim: Claim) -> None:
        """See LogLedger."""
        with self._write() as db:
            db.execute("DELETE FROM log WHERE job_id = ? AND attempt = ?", (claim.job.id, claim.attempt))

    def owed_logs(self) -> Sequence[OwedLog]:
        """See LogLedger."""
        rows = self._all("SELECT document, base_bytes FROM log WHERE is_owed ORDER BY noted_at")
        return [OwedLog(_CLAIM.validate_json(document), base_bytes) for document, base_bytes in rows]

    # ------------------------------------------------------------------------------------------ the file

    @contextmanager
    def _write(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._mend()
                self._db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    self._is_suspect = self._is_suspect or _name_of(error).startswith("SQLITE_IOERR")
                    raise JournalError(f"the journal cannot be written: {error}") from error
                raise
            self._outbox_changed.notify_all()

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")

    def _mend(self) -> None:
        """
        After a write that failed in the disk, open the file anew and write the log's content into it.

        What could not be synced the kernel may call clean and forget, so a second sync of the same file proves
        nothing; the checkpoint writes and syncs all of it once more.
        """
        if self._is_suspect:
            self._db.close()
            self._db = _open(self._path)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._is_suspect = False

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            try:
                self._mend()
                return self._db.execute(query, values).fetchall()
            except (sqlite3.Error, ValidationError) as error:
                raise JournalError(f"the journal cannot be read: {error}") from error

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        rows = self._all(query, values)
        return rows[0] if rows else None


def _open(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for name, wanted in PRAGMAS.items():
            db.execute(f"PRAGMA {name} = {wanted}")
            found = db.execute(f"PRAGMA {name}").fetchone()[0]
            if found != wanted:
                raise JournalError(f"{path}: {name} is {found}, not {wanted}; is this a network file system?")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise JournalError(f"{path} was written by a newer version (schema {version}); it is left as it is")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        if version < SCHEMA_VERSION:
            steps = "".join(STEPS[version:])
            db.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        _read_what_matters(db)
    except BaseException:
        db.close()
        raise
    return db


def _too_much(db: sqlite3.Connection, waiting_bytes: int) -> list[tuple[int, int]]:
    """What waits behind *waiting_bytes* of newer words: its positions, and how many bytes those are."""
    found = db.execute(
        "SELECT position, behind FROM (SELECT position, sum(length(detail) + coalesce(length(message), 0))"
        " OVER (ORDER BY position DESC) AS behind FROM outbox WHERE fate IS NULL) WHERE behind > ?",
        (waiting_bytes,),
    )
    return [(int(position), int(behind)) for position, behind in found]


def _read_what_matters(db: sqlite3.Connection) -> None:
    """Read all that will be needed, so that what cannot be read is known before anything is done with the rest."""
    for name, document in db.execute("SELECT state, document FROM claim WHERE state IN ('intended', 'held')"):
        (_CLAIM if name == "held" else _JOB).validate_json(document)
    for status, detail in db.execute(
        "SELECT status, detail FROM outbox WHERE fate IS NULL"
        " OR job_id IN (SELECT job_id FROM claim WHERE state = 'held')"
    ):
        Status(status)
        json.loads(detail)
    for table in ("identity", "upload"):
        db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - two names of our own


def _is_of_the_disk(error: Exception) -> bool:
    """Whether *error* says that the file cannot be used now, rather than that its content is damaged."""
    return _name_of(error).startswith(_DISK_ERRORS)


def _name_of(error: BaseException | None) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return aside


def _now() -> str:
    return datetime.now(UTC).isoformat()
