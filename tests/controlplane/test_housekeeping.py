"""What the sweep throws away, over a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.jobs import agents, sweeper
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.plane import open_database
from overmind_controlplane.record import idempotency
from overmind_controlplane.record.database import Database, ring
from overmind_controlplane.record.tables import AgentEvent, IdempotencyKey, now
from overmind_controlplane.storage.blobs import KEEP_INCOMING_S, Blobs


@pytest.fixture
def told() -> list[str]:
    """The topics that were rung, in order."""
    return []


@pytest.fixture
def database(tmp_path: Path, database_url: str | None, told: list[str]) -> Iterator[Database]:
    """An empty one."""
    made = open_database(tmp_path, database_url, lambda *topics: told.extend(topics))
    yield made
    made.close()


@pytest.fixture
def caller(database: Database) -> Caller:
    """An agent's token."""
    with database.write() as session:
        make_project(session, "demo")
        secret, _ = make_token(session, "demo", Role.AGENT)
        return authenticate(session, secret)


def test_old_statuses_go_but_the_last_of_each_agent_stays(database: Database, caller: Caller) -> None:
    with database.write() as session:
        agent = agents.register(session, caller)
        for name in ("Idle", "ExecutingJob", "Paused"):
            agents.set_status(session, caller, agent, name)
        session.execute(update(AgentEvent).values(created=now() - agents.STATUS_KEPT_FOR - timedelta(seconds=1)))

    with database.write() as session:
        agents.prune(session)

    with database.read() as session:
        left = agents.history(session, agent.id, agents.STATUS)
    assert [{"name": "Paused"}] == [event.value for event in left]


def test_a_key_is_kept_for_a_week(database: Database) -> None:
    with database.write() as session:
        for name, age in (("old", timedelta(days=7, seconds=1)), ("young", timedelta(days=6, hours=23))):
            idempotency.keep(session, "scope", name, "digest", made="made")
            session.flush()
            session.execute(update(IdempotencyKey).where(IdempotencyKey.key == name).values(created=now() - age))

    with database.write() as session:
        idempotency.prune(session)

    with database.read() as session:
        assert ["young"] == list(session.scalars(select(IdempotencyKey.key)))


def test_what_a_transaction_did_not_finish_is_undone_and_told_to_nobody(
    database: Database, told: list[str]
) -> None:
    def fail() -> None:
        with database.write() as session:
            make_project(session, "half")
            ring(session, "half")
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fail()
    with database.write() as session:
        make_project(session, "half")
        ring(session, "whole")

    assert ["whole"] == told


def test_old_records_go_once_an_hour_whoever_sweeps(database: Database) -> None:
    """The first sweep of a new database leaves it due; after that the hour counts for all servers."""

    def grant_long_ago(name: str) -> None:
        with database.write() as session:
            idempotency.keep(session, "scope", name, "digest", made="made")
            session.flush()
            session.execute(update(IdempotencyKey).values(created=now() - timedelta(days=8)))

    def kept() -> list[str]:
        with database.read() as session:
            return list(session.scalars(select(IdempotencyKey.key)))

    sweeper.sweep(database, Board(60.0))
    grant_long_ago("first")
    sweeper.prune(database)
    after_first = kept()
    grant_long_ago("second")
    sweeper.prune(database)

    assert ([], ["second"]) == (after_first, kept())


def test_what_a_dead_server_was_receiving_goes_after_a_week(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    (blobs.incoming / "half").write_bytes(b"of it")
    parts = blobs.incoming / "demo" / "an-upload"
    parts.mkdir(parents=True)
    (parts / "1").write_bytes(b"the first part")
    now_s = (blobs.incoming / "half").stat().st_mtime

    blobs.prune(now_s=now_s + KEEP_INCOMING_S - 60)
    before = sorted(path.name for path in blobs.incoming.rglob("*"))
    blobs.prune(now_s=now_s + KEEP_INCOMING_S + 60)

    assert ["1", "an-upload", "demo", "half"] == before
    assert ["demo"] == [path.name for path in blobs.incoming.rglob("*")]
