"""The parts of a running control plane, put together; the only module that makes them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overmind_controlplane.blobs import Blobs, Signer
from overmind_controlplane.board import Board
from overmind_controlplane.database import Database
from overmind_controlplane.joblogs import JobLogs
from overmind_controlplane.sweeper import Sweeper
from overmind_controlplane.timers import Leases, Reservations
from overmind_controlplane.waiting import Waiting

RESERVATION_S: Final = 5.0
LEASE_S: Final = 60.0
MAX_BLOB_BYTES: Final = 8 << 30


@dataclass(frozen=True)
class Settings:
    """
    What the person who starts the server decides.

    Attributes:
        data: the folder that holds everything.
        public_url: under which clients reach the server, None to take what they called it.
        allowed_hosts: names that the Host header may have, None for any; guards a loopback server against pages
            in the same machine's browser (DNS rebinding).
    """

    data: Path
    lease_s: float = LEASE_S
    max_blob_bytes: int = MAX_BLOB_BYTES
    public_url: str | None = None
    allowed_hosts: frozenset[str] | None = None


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
    sweeper: Sweeper

    @classmethod
    def build(cls, settings: Settings) -> Plane:
        """All parts over the data folder, which is made if need be; nothing runs yet."""
        database = open_database(settings.data)
        waiting = Waiting()
        board = Board(
            waiting, Leases(settings.lease_s, time.monotonic), Reservations(RESERVATION_S, time.monotonic)
        )
        return cls(
            settings=settings,
            database=database,
            board=board,
            blobs=Blobs(settings.data / "blobs"),
            signer=Signer(settings.data / "signing.key"),
            logs=JobLogs(settings.data / "logs"),
            waiting=waiting,
            sweeper=Sweeper(database, board),
        )


def open_database(data: Path) -> Database:
    """The database in the data folder; both are made if need be, readable by their owner alone."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Database(data / "control-plane.db")
