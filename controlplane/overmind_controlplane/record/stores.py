"""
The two databases that may hold the record, and everything in which they differ.

What both have in common is `database`. Nothing else in the package asks which of the two it works on.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, Float, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import GenericFunction

BUSY_TIMEOUT_MS: Final = 10_000
CHANNEL: Final = "overmind"

_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL = 5, 6, 13
_TOPICS_A_NOTICE: Final = 100
"""A topic has less than 64 characters, a notice at most 8,000 bytes."""
_MIGRATION_LOCK: Final = 0x6F766572
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",  # first: the next one may have to wait already
    "PRAGMA journal_mode = WAL",
    "PRAGMA foreign_keys = ON",
)
# Fewer than PostgreSQL's hundred, so that several servers and a person fit.
_CONNECTIONS: Final = 12
_NOTING: Final = 4
_POSTGRES_OPTIONS: Final = (
    "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
)


class StoreClock(GenericFunction[float]):
    """
    Seconds on the clock that leases and reservations are measured with, as an expression.

    On PostgreSQL the database's own, so that all servers agree. On SQLite there is one server, and it is that
    process's monotonic clock. When it was set, or began anew, `sweeper` notices and gives all leases anew.
    """

    type = Float()
    name = "store_clock_s"
    inherit_cache = True


@compiles(StoreClock, "postgresql")
def _postgres_clock(_element: StoreClock, _compiler: Any, **_more: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


class Store(Protocol):
    """
    One database.

    Attributes:
        engine: for transactions that only read: one consistent view.
        glancing: for single statements outside of a transaction.
        writing: for those that change something.
        noting: for changes that a crash of the database may take back: they cost no disk flush.
        is_shared: whether several servers may use it at once.
    """

    engine: Engine
    glancing: Engine
    writing: Engine
    noting: Engine
    is_shared: bool

    def begin(self, connection: Connection) -> None:
        """Begin the transaction that *connection*, of one of the engines, was opened for."""

    def turn(self) -> AbstractContextManager[object]:
        """Held while a transaction changes something, where changes have to queue."""

    def announce(self, session: Session, topics: Collection[str]) -> None:
        """Tell the other servers, when the transaction is through and only then, that *topics* have changed."""

    def hold_schema(self, connection: Connection) -> None:
        """Wait until nobody else changes the schema, and let nobody until the transaction ends."""

    def is_away(self, error: Exception) -> bool:
        """Whether *error* means that the database cannot be used at this moment, and not a fault of ours."""


class SqliteStore:
    """A file, for one server; the command line may use it too."""

    is_shared = False

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.engine: Engine = _sqlite(path, clock_s)
        self.glancing: Engine = self.engine
        # An agent forgets an update once it was answered 200, so the answer must survive a power cut.
        self.writing: Engine = self.engine.execution_options(begin="BEGIN IMMEDIATE", synchronous="FULL")
        self.noting: Engine = self.engine.execution_options(begin="BEGIN IMMEDIATE", synchronous="NORMAL")
        # SQLite's own wait polls; a lock of ours queues the threads of this process and wakes the next at once.
        self._turn = threading.Lock()

    def begin(self, connection: Connection) -> None:
        """
        See Store.

        The driver begins nothing. A listener of the engine could do this, and would cost every statement of it.
        """
        options = connection.get_execution_options()
        wanted = options.get("synchronous")
        if wanted is not None and connection.info.get("synchronous") != wanted:  # the connection itself remembers
            connection.exec_driver_sql(f"PRAGMA synchronous = {wanted}")
            connection.info["synchronous"] = wanted
        connection.exec_driver_sql(options["begin"])

    def turn(self) -> AbstractContextManager[object]:
        """See Store."""
        return self._turn

    def announce(self, session: Session, topics: Collection[str]) -> None:
        """See Store: there are no others."""

    def hold_schema(self, connection: Connection) -> None:
        """See Store: `BEGIN IMMEDIATE` does."""

    def is_away(self, error: Exception) -> bool:
        """See Store."""
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
        return isinstance(error, NoConnectionFree) or code & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL)


class PostgresStore:
    """
    A PostgreSQL database, for any number of servers.

    Attributes:
        name: of this server among them, in its notices.
    """

    is_shared = True

    def __init__(self, url: URL) -> None:
        self.name = uuid.uuid4().hex
        self.writing: Engine = _postgres(url, _CONNECTIONS, _POSTGRES_OPTIONS)
        self.engine: Engine = self.writing.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self.glancing: Engine = self.writing.execution_options(isolation_level="AUTOCOMMIT")
        # Connections of their own: to say so in each transaction would be one more way to the database and back.
        self.noting: Engine = _postgres(url, _NOTING, f"{_POSTGRES_OPTIONS} -c synchronous_commit=off")

    def begin(self, connection: Connection) -> None:
        """See Store: the driver does."""

    def turn(self) -> AbstractContextManager[object]:
        """See Store: rows are locked one by one."""
        return contextlib.nullcontext()

    def announce(self, session: Session, topics: Collection[str]) -> None:
        """See Store."""
        waiting = sorted(topics)
        while waiting:
            told, waiting = waiting[:_TOPICS_A_NOTICE], waiting[_TOPICS_A_NOTICE:]
            session.execute(select(func.pg_notify(CHANNEL, " ".join((self.name, *told)))))

    def hold_schema(self, connection: Connection) -> None:
        """See Store."""
        # Another server may migrate for longer than a statement may take.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

    def is_away(self, error: Exception) -> bool:
        """See Store. Deadlocks and time-outs are among them: the transaction was undone, and may be tried again."""
        is_cut = isinstance(error, DBAPIError) and error.connection_invalidated
        return is_cut or isinstance(error, OperationalError | NoConnectionFree)


def _postgres(url: URL, connections: int, options: str) -> Engine:
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,  # the connection used last has its statements prepared and its tables known
        pool_timeout=10,
        connect_args={"connect_timeout": 5, "options": options, "application_name": "overmind-control-plane"},
    )


def _sqlite(path: Path, clock_s: Callable[[], float]) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        hide_parameters=True,
        pool_size=20,
        max_overflow=60,
        pool_use_lifo=True,  # the connection used last has its statements prepared and its pages at hand
        execution_options={"begin": "BEGIN"},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # or the driver would begin transactions of its own, and late
        connection.create_function(StoreClock.name, 0, clock_s)
        for pragma in _PRAGMAS:
            connection.execute(pragma).close()

    return engine
