"""Notices of the other servers on one PostgreSQL database: a thread that hears them and rings the bells here."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
import structlog
from psycopg.sql import SQL, Identifier

from overmind_controlplane.record.stores import CHANNEL, PostgresStore

CHECK_EVERY_S: Final = 10.0
RETRY_AFTER_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger(__name__)


class Listener:
    """
    Hears what other servers `announce`, on a connection of its own. Start it once, stop it once.

    Notices that came while the connection was away are lost, so everybody is woken when it is back.
    """

    def __init__(self, store: PostgresStore, ring: Callable[..., None], ring_all: Callable[[], None]) -> None:
        self._store = store
        self._ring = ring
        self._ring_all = ring_all
        self._stopping = threading.Event()
        self._stop_here, self._stop_there = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at once."""
        self._stopping.set()
        self._stop_there.send(b"x")
        self._thread.join()
        self._stop_here.close()
        self._stop_there.close()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                with self._connect() as connection:
                    failures = 0
                    self._ring_all()
                    self._listen(connection)
            except (psycopg.Error, OSError) as error:
                wait_s = RETRY_AFTER_S[min(failures, len(RETRY_AFTER_S) - 1)]
                failures += 1
                # The text of the driver's errors names hosts and users, never a password.
                log.warning("listener.cut_off", error=str(error).strip(), wait_s=wait_s)
                self._stopping.wait(wait_s)

    def _connect(self) -> psycopg.Connection[Any]:
        engine = self._store.writing
        _, told = engine.dialect.create_connect_args(engine.url)
        name = "overmind-control-plane listener"
        connection = psycopg.connect(**{**told, "connect_timeout": 5, "application_name": name}, autocommit=True)
        connection.execute(SQL("LISTEN {}").format(Identifier(CHANNEL)))
        return connection

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._stop_here, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if not selector.select(CHECK_EVERY_S):
                    connection.execute("SELECT 1")  # a peer that vanished without a word is noticed only so
                for notice in connection.notifies(timeout=0):
                    sender, *topics = notice.payload.split()
                    if sender != self._store.name:
                        self._ring(*topics)
