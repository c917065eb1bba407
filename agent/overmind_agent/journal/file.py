"""The one SQLite file behind the journal: its schema, its connection, and what happens when the disk fails."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from pydantic import TypeAdapter, ValidationError

from overmind_agent.errors import JournalError
from overmind_agent.jobs import Claim, Enclosed, Job
from overmind_agent.lifecycle import Status

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
FOURTH: Final = """
-- what goes with a status: the claim and its result files, which are read when it is sent
ALTER TABLE outbox ADD COLUMN enclosed TEXT;
"""
# What makes each version of the schema out of the one before.
STEPS: Final = (FIRST, SECOND, THIRD, FOURTH)
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
JOB: Final = TypeAdapter(Job)
CLAIM: Final = TypeAdapter(Claim)
ENCLOSED: Final = TypeAdapter(Enclosed)

J = TypeVar("J", bound="JournalFile")
P = ParamSpec("P")
T = TypeVar("T")


class Synced(Enum):
    """When a commit waits for the disk. Until then it survives the end of the process, and not a power cut."""

    NOW = "now"
    BEFORE_TOLD = "before anybody is told of it"
    NEVER = "never: it may be done or said again"


def saying_what_must_be_said(
    method: Callable[Concatenate[J, P], T],
) -> Callable[Concatenate[J, P], T]:
    """A write that finds the disk full is tried once more with the room that was kept back for it."""

    @functools.wraps(method)
    def write(journal: J, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(journal, *args, **kwargs)
        except JournalError as error:
            if not (_name_of(error.__cause__) in _FULL and journal._make_room()):
                raise
        return method(journal, *args, **kwargs)

    return write


class JournalFile:
    """
    The file, open; what is in it is the business of those who inherit this.

    A commit is on disk (`synchronous=FULL`) before a method returns, or as `Synced` says: see decision 0033. Does
    not own the state folder's lock: one process has the folder to itself before it opens the journal.

    Args:
        path: created with mode 0600 when missing. A damaged file is set aside as `<name>.corrupt-<time>`.
        on_set_aside: told the new path when that happens.
        make_room: called when a write finds the disk full; whether there is room now, so that it is tried again.
        sync: makes the file that it is given survive a power cut.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_set_aside: Callable[[Path], None] = lambda _: None,
        make_room: Callable[[], bool] = lambda: False,
        sync: Callable[[Path], object] | None = None,
    ) -> None:
        self._path = path
        self._make_room = make_room
        self._sync = sync or _sync
        self._is_to_be_synced = True  # an earlier process may have left it so
        self._is_suspect = False
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
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

    @contextmanager
    def _write(self, synced: Synced = Synced.NOW) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._mend()
                self._db.execute(f"PRAGMA synchronous = {'FULL' if synced is Synced.NOW else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
                if synced is not Synced.NEVER:  # the sync of a commit is one of all before it, too
                    self._is_to_be_synced = synced is Synced.BEFORE_TOLD
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

    def _sync_what_is_told(self) -> None:
        """
        Put what was committed so far on disk; others may commit meanwhile.

        Raises:
            JournalError: the disk does not take it. Then nobody may be told of it.
        """
        with self._syncing:
            with self._lock:
                was_to_be_synced, self._is_to_be_synced = self._is_to_be_synced, False
            if not was_to_be_synced:
                return
            try:
                self._sync(self._path.with_name(self._path.name + "-wal"))
            except FileNotFoundError:  # nothing was written since the file was closed, which syncs it
                return
            except OSError as error:
                with self._lock:
                    self._is_to_be_synced = self._is_suspect = True
                raise JournalError(f"the journal cannot be written: {error}") from error

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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _read_what_matters(db: sqlite3.Connection) -> None:
    """Read all that will be needed, so that what cannot be read is known before anything is done with the rest."""
    for name, document in db.execute("SELECT state, document FROM claim WHERE state IN ('intended', 'held')"):
        (CLAIM if name == "held" else JOB).validate_json(document)
    for status, detail, enclosed in db.execute(
        "SELECT status, detail, enclosed FROM outbox WHERE fate IS NULL"
        " OR job_id IN (SELECT job_id FROM claim WHERE state = 'held')"
    ):
        Status(status)
        json.loads(detail)
        if enclosed is not None:
            ENCLOSED.validate_json(enclosed)
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


def now_text() -> str:
    """This moment, as the tables hold it."""
    return datetime.now(UTC).isoformat()
