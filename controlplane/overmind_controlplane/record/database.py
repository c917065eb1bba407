"""The database: how a transaction is opened, and what happens when it is through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, UOWTransaction

from overmind_controlplane.record import audit
from overmind_controlplane.record.appending import HAS_WRITTEN, AppendingSession
from overmind_controlplane.record.migrating import bring_up_to_date
from overmind_controlplane.record.stores import Store

Ring = Callable[..., None]
"""Wakes whoever waits, in this process, for the topics that it is given."""


class Database:
    """
    Opens transactions on a store. Safe to use from any thread; other processes may use the same store.

    A session is a transaction: it is committed when its block ends and undone when the block raises. What a call
    changes has its line in the audit, in the same transaction.
    """

    def __init__(self, store: Store, ring: Ring = lambda *_topics: None) -> None:
        self.store = store
        self._ring = ring
        bring_up_to_date(store)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view; sees no change that is made meanwhile."""
        with Session(self.store.engine, expire_on_commit=False) as session, session.begin():
            self.store.begin(session.connection())
            yield session

    @contextmanager
    def glance(self) -> Iterator[Session]:
        """Single statements, each for itself: cheaper than `read`, and no consistent view."""
        with Session(self.store.glancing, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A change, durable when the block has ended. Rows that are read to be changed are locked: `for_change`."""
        with self._change(self.store.writing) as session:
            event.listen(session, "after_flush", _note_flush)
            yield session
            session.flush()
            if session.info.get(HAS_WRITTEN) and (call := audit.present_call()) is not None:
                audit.note(session, call, audit.GRANTED)

    @contextmanager
    def note(self) -> Iterator[Session]:
        """A change that costs nothing and that a crash of the database may take back: an offer, a heartbeat."""
        with self._change(self.store.noting) as session:
            yield session

    @contextmanager
    def _change(self, engine: Engine) -> Iterator[Session]:
        topics: set[str] = set()
        with AppendingSession(engine, expire_on_commit=False, info={"topics": topics}) as session:
            with self.store.turn(), session.begin():
                self.store.begin(session.connection())
                yield session
                session.flush()
                if topics:
                    self.store.announce(session, topics)
            if topics:
                self._ring(*topics)

    def close(self) -> None:
        """Give the connections back; no transaction may be open."""
        for engine in (self.store.engine, self.store.noting):
            engine.dispose()


def _note_flush(session: Session, _context: UOWTransaction) -> None:
    session.info[HAS_WRITTEN] = True


def is_changing(session: Session) -> bool:
    """Whether *session* was opened to change something."""
    return "topics" in session.info


def ring(session: Session, topic: str) -> None:
    """Wake whoever waits for *topic*, on every server, once the transaction is durable; not if it is undone."""
    session.info["topics"].add(topic)
