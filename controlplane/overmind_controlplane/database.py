"""The database: how a transaction is opened, and what happens when it is through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session

from overmind_controlplane.tables import Row

BUSY_TIMEOUT_MS: Final = 10_000

_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",  # first: the next one may have to wait already
    "PRAGMA journal_mode = WAL",
    # An agent forgets an update once it was answered 200, so the answer must survive a power cut: NORMAL would not.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


class Database:
    """
    Opens transactions on one SQLite file. Safe to use from any thread; the command line may use the file too.

    A session is a transaction: it is committed when its block ends and undone when the block raises.
    """

    def __init__(self, path: Path) -> None:
        self._engine = _engine(path)
        self._writing = self._engine.execution_options(writes=True)
        # SQLite's own wait polls; a lock of ours queues the threads of this process and wakes the next at once.
        self._writer = threading.Lock()
        Row.metadata.create_all(self._writing)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view; sees no change that is made meanwhile."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """The only writer there is. What was given to `after_commit` runs when the change is durable."""
        with Session(self._writing, expire_on_commit=False) as session:
            with self._writer, session.begin():
                yield session
            for action in session.info.pop("after_commit", ()):
                action()

    def close(self) -> None:
        """Give the file back; no transaction may be open."""
        self._engine.dispose()


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Run *action* once the transaction is durable, and not at all if it is undone."""
    session.info.setdefault("after_commit", []).append(action)


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", hide_parameters=True, pool_size=20, max_overflow=60)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # or the driver would begin transactions of its own, and late
        for pragma in _PRAGMAS:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later may fail half-way; one that will write says so at once.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
