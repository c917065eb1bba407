"""The parts of a running control plane, put together; the only module that makes them."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from overmind_controlplane.callers import Callers
from overmind_controlplane.jobs.asking import Asking
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.handing_over import HandingOver
from overmind_controlplane.jobs.quota import Quota
from overmind_controlplane.jobs.reports import Reports
from overmind_controlplane.jobs.sweeper import Sweeper
from overmind_controlplane.jobs.waiting import Waiting
from overmind_controlplane.record.database import Database, Ring
from overmind_controlplane.record.database_url import read as read_database_url
from overmind_controlplane.record.stores import PostgresStore, SqliteStore, Store
from overmind_controlplane.storage import files
from overmind_controlplane.storage.blobs import Blobs, Signer
from overmind_controlplane.storage.joblogs import JobLogs

if TYPE_CHECKING:
    from overmind_controlplane.record.listening import Listener

LEASE_S: Final = 60.0
MAX_BLOB_BYTES: Final = 8 << 30
RATE_PER_S: Final = 1000.0
MOST_WAITING: Final = 100_000


@dataclass(frozen=True)
class Settings:
    """
    What the person who starts the server decides.

    Attributes:
        data: the folder that holds everything; with a database elsewhere, everything but the record.
        database_url: of a PostgreSQL database that holds the record, None for SQLite in the folder. May have a
            password in it.
        public_url: under which clients reach the server, None to take what they called it.
        allowed_hosts: names that the Host header may have, None for any; guards a loopback server against pages
            in the same machine's browser (DNS rebinding).
        rate_per_s: how many calls a second a token may make, 0 for any number; each server process counts.
        most_waiting: how many jobs of a project may wait, 0 for any number; each server process counts.
        is_plain: leave out what the agent-pull dialect has beyond the published client.
    """

    data: Path
    database_url: str | None = field(default=None, repr=False)
    lease_s: float = LEASE_S
    max_blob_bytes: int = MAX_BLOB_BYTES
    public_url: str | None = None
    allowed_hosts: frozenset[str] | None = None
    rate_per_s: float = RATE_PER_S
    most_waiting: int = MOST_WAITING
    is_plain: bool = False


@dataclass(frozen=True)
class Plane:
    """What the routes work with."""

    settings: Settings
    database: Database
    board: Board
    blobs: Blobs
    signer: Signer
    logs: JobLogs
    waiting: Waiting
    reports: Reports
    asking: Asking
    callers: Callers
    sweeper: Sweeper
    listener: Listener | None

    @classmethod
    def build(cls, settings: Settings) -> Plane:
        """All parts over the data folder, which is made if need be; nothing runs yet."""
        waiting = Waiting()
        database = open_database(settings.data, settings.database_url, waiting.ring)
        board = Board(settings.lease_s, Quota(settings.most_waiting, time.monotonic))
        blobs = Blobs(settings.data / "blobs", partial(_salts_of, database))
        handing_over = HandingOver(board, blobs)
        return cls(
            settings=settings,
            database=database,
            board=board,
            blobs=blobs,
            signer=Signer(settings.data / "signing.key"),
            logs=JobLogs(settings.data / "logs"),
            waiting=waiting,
            reports=Reports(database, board, handing_over),
            asking=Asking(database, board, handing_over),
            callers=Callers(database),
            sweeper=Sweeper(database, board, blobs),
            listener=_listener(database.store, waiting),
        )

    def start(self) -> None:
        """Let the threads run."""
        self.sweeper.start()
        if self.listener is not None:
            self.listener.start()

    def stop(self) -> None:
        """End the threads, give the connections back."""
        self.sweeper.stop()
        if self.listener is not None:
            self.listener.stop()
        self.database.close()


def open_database(data: Path, database_url: str | None = None, ring: Ring | None = None) -> Database:
    """
    The database, and the data folder, which is made if need be, readable by its owner alone.

    Raises:
        WrongDatabaseUrl: it is none of a PostgreSQL database.
        NewerSchema: a later version of this program has used it.
        SQLAlchemyError: it cannot be reached.
        ImportError: the driver is not installed.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    store: Store = (
        SqliteStore(data / "control-plane.db")
        if database_url is None
        else PostgresStore(read_database_url(database_url))
    )
    return Database(store) if ring is None else Database(store, ring)


def _salts_of(database: Database, project_id: str, sha: str) -> Collection[str]:
    with database.glance() as session:
        return files.salts_of(session, project_id, sha)


def _listener(store: Store, waiting: Waiting) -> Listener | None:
    if not isinstance(store, PostgresStore):
        return None
    from overmind_controlplane.record.listening import Listener  # needs a driver that is not everywhere

    return Listener(store, waiting.ring, waiting.ring_all)
