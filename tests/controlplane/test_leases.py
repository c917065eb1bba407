"""Leases: what renews them, and what happens when they run out. The hasty server gives half a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from plane_calls import Project, eventually, names
from sqlalchemy import text

from overmind_agent import wire
from overmind_agent.lifecycle import Status
from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.jobs import agents, heartbeats, offers
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.sweeper import sweep
from overmind_controlplane.jobs.timers import RESERVATION_S
from overmind_controlplane.jobs.words import NewJob, Word
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.stores import SqliteStore
from overmind_controlplane.storage.files import NewRevision
from server import start_control_plane


def test_a_job_whose_lease_ran_out_waits_again(hasty: Project) -> None:
    job_id = hasty.submit.make_job()["id"]
    agent_id = hasty.agent.register("lease")
    hasty.agent.say(job_id, "Claimed", agent_id, key="a")

    eventually(lambda: hasty.submit.status(job_id) == "Pending")

    job = hasty.submit.job(job_id)
    late = hasty.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)
    assert ["Pending", "Claimed", "Pending"] == names(job)
    assert "the lease ran out" == job["status_history"][-1]["message"]
    assert (409, "superseded") == (late.status_code, late.json()["code"])


def test_the_last_lost_attempt_fails_the_job(hasty: Project) -> None:
    job_id = hasty.submit.make_job(max_attempts=2)["id"]
    agent_id = hasty.agent.register("lease")
    for attempt in (1, 2):
        claimed = hasty.agent.say(job_id, "Claimed", agent_id, key=f"k{attempt}").json()
        assert attempt == claimed["attempt"]
        eventually(lambda: hasty.submit.status(job_id) != "Claimed")

    job = hasty.submit.job(job_id)

    assert ["Pending", "Claimed", "Pending", "Claimed", "Failed"] == names(job)
    assert {"reason": "attempts_exhausted"} == job["status_history"][-1]["detail"]


def test_three_attempts_may_be_lost_by_default(hasty: Project) -> None:
    job = hasty.submit.make_job()

    assert 3 == job["limits"]["max_attempts"]


def test_more_slots_than_a_store_can_count_are_refused_by_name(project: Project) -> None:
    agent_id = project.agent.register("lease")

    answer = project.agent.call("POST", f"/api/v2/agents/{agent_id}/heartbeat", {"slots": 1 << 31})

    assert 422 == answer.status_code
    assert "slots" in answer.text


def test_heartbeats_keep_a_lease_longer_than_it_is(hasty: Project) -> None:
    kept, lost = hasty.submit.make_job()["id"], hasty.submit.make_job()["id"]
    agent_id = hasty.agent.register("lease")
    hasty.agent.say(kept, "Claimed", agent_id, key="a")
    hasty.agent.say(lost, "Claimed", agent_id, key="b")

    def beat() -> bool:
        hasty.agent.heartbeat(agent_id, (kept, 1))
        return hasty.submit.status(lost) == "Pending"

    eventually(beat)

    assert "Claimed" == hasty.submit.status(kept)


def test_an_agent_without_a_lease_keeps_its_job(hasty: Project) -> None:
    kept, lost = hasty.submit.make_job()["id"], hasty.submit.make_job()["id"]
    hasty.agent.say(kept, "Claimed", hasty.agent.register())
    hasty.agent.say(lost, "Claimed", hasty.agent.register("lease"))

    eventually(lambda: hasty.submit.status(lost) == "Pending")

    assert "Claimed" == hasty.submit.status(kept)


def test_a_restart_gives_every_lease_anew(tmp_path: Path, database_url: str | None) -> None:
    """An agent that could not reach a server which was down has lost nothing by it."""
    with start_control_plane(tmp_path, lease_s=1.0, database_url=database_url) as plane:
        project = Project(plane.url, plane.tokens)
        job_id = project.submit.make_job()["id"]
        agent_id = project.agent.register("lease")
        project.agent.say(job_id, "Claimed", agent_id, key="a")
        plane.kill()

        plane.restart()
        answer = project.agent.heartbeat(agent_id, (job_id, 1))

        assert "continue" == answer["jobs"][0]["directive"]
        assert ["Pending", "Claimed"] == names(project.submit.job(job_id))
        eventually(lambda: project.submit.status(job_id) == "Pending")
        project.close()


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Table:
    """A board with one project and two agents, without a server, on a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = Hands()
        self.board = Board(60.0)
        self.database = Database(SqliteStore(folder / "control-plane.db", self.clock))
        with self.database.write() as session:
            make_project(session, "demo")
            self.caller = authenticate(session, make_token(session, "demo", Role.ADMIN)[0])
            self.agents = [agents.register(session, self.caller).id for _ in range(2)]
            for agent_id in self.agents:
                agents.get(session, self.caller, agent_id).capabilities = ["lease"]
            salt = "0" * 32
            revision = NewRevision("a" * 96, salt, "b" * 96, salt, size=2, sha256="c" * 64, name="parameters.json")
            self.job_id = self.board.create(session, self.caller, NewJob("@overmind:inference", revision, None)).id
        self.sweep()

    def sweep(self) -> int:
        """How many jobs were taken back."""
        return sweep(self.database, self.board)

    def wait(self, seconds: int) -> None:
        """Let time pass while somebody sweeps every second."""
        for _ in range(seconds):
            self.clock.now_s += 1.0
            self.sweep()

    def claim(self, agent: int = 0) -> None:
        """By the first agent, or another."""
        with self.database.write() as session:
            word = Word(Status.CLAIMED, agent_id=self.agents[agent], key=f"k{self.clock.now_s}")
            self.board.report(session, self.caller, self.board.get(session, self.caller, self.job_id), word)

    def beat(self, agent: int = 0, *, attempt: int = 1, ends: int = 0) -> str:
        """Of the first agent, or another; what it is told."""
        with self.database.note() as session:
            line = wire.HeldJob(job_id=self.job_id, attempt=attempt, ends=ends)
            beat = wire.Heartbeat(slots=1, jobs=[line])
            known = agents.get(session, self.caller, self.agents[agent])
            heartbeats.arrive(session, self.caller, self.board, known, beat)
            return heartbeats.orders(session, self.caller, self.board, known, [line])[0].directive

    def release(self) -> None:
        """By the first agent, in the first attempt."""
        with self.database.write() as session:
            word = Word(Status.PENDING, agent_id=self.agents[0], attempt=1, sequence=1)
            self.board.report(session, self.caller, self.board.get(session, self.caller, self.job_id), word)

    def offer(self, agent: int) -> str | None:
        """What that agent is offered."""
        with self.database.note() as session:
            known = agents.get(session, self.caller, self.agents[agent])
            job = offers.offer(session, known, self.caller.projects, offers.Turns(), None)
            return job.id if job else None

    @property
    def status(self) -> Status:
        """The job's."""
        with self.database.read() as session:
            return self.board.get(session, self.caller, self.job_id).status


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    """One job, which waits."""
    made = Table(tmp_path)
    yield made
    made.database.close()


def test_a_lease_is_measured_from_its_last_renewal(table: Table) -> None:
    table.claim()
    table.wait(59)
    table.beat()
    table.wait(59)

    before = table.status
    table.wait(1)

    assert (Status.CLAIMED, Status.PENDING) == (before, table.status)


@pytest.mark.parametrize("step_s", [600.0, -600.0], ids=["forward", "backward"])
def test_after_a_gap_in_time_every_lease_is_whole_again(table: Table, step_s: float) -> None:
    """No server ran, the database was away, or its clock was set: nobody could have renewed anything."""
    table.claim()
    table.wait(59)

    table.clock.now_s += step_s
    table.wait(59)
    before = table.status
    table.wait(2)

    assert (Status.CLAIMED, Status.PENDING) == (before, table.status)


def test_a_reservation_lapses(table: Table) -> None:
    offered = table.offer(0)
    kept = table.offer(1)

    table.clock.now_s += RESERVATION_S

    assert (table.job_id, None, table.job_id) == (offered, kept, table.offer(1))


def test_an_agent_is_offered_its_own_reservation_again(table: Table) -> None:
    assert (table.job_id, table.job_id) == (table.offer(0), table.offer(0))


def test_ends_of_agents_and_lost_leases_are_counted_together(table: Table) -> None:
    """One agent ended once and came back, and was lost; the other one ended once: that is three."""
    table.claim()
    told = [table.beat(ends=ends) for ends in (0, 1, 1)]
    table.wait(60)
    table.claim(1)

    last = table.beat(1, attempt=2, ends=1)
    table.wait(60)

    assert ["continue"] * 3 == told
    assert ("superseded", Status.FAILED) == (last, table.status)


def test_a_lost_lease_may_be_the_last_end(table: Table) -> None:
    table.claim()
    table.beat(ends=2)

    table.wait(60)

    assert Status.FAILED is table.status


def test_ends_are_counted_when_the_job_was_given_back(table: Table) -> None:
    table.claim()
    table.beat(ends=2)
    table.release()
    table.wait(1)
    table.claim(1)

    told = [table.beat(1, attempt=2, ends=ends) for ends in (0, 1)]

    assert ["continue", "superseded"] == told
    assert Status.FAILED is table.status


def test_an_end_that_is_told_twice_or_by_somebody_else_is_one(table: Table) -> None:
    table.claim()

    told = [table.beat(agent, ends=ends) for agent, ends in ((0, 1), (1, 3), (0, 1), (0, 0), (0, 2))]

    assert ["continue", "superseded", "continue", "continue", "continue"] == told
    assert Status.CLAIMED is table.status


def test_who_may_try_more_often_may_end_more_often(table: Table) -> None:
    with table.database.write() as session:
        table.board.get(session, table.caller, table.job_id).max_attempts = 5
    table.claim()

    told = [table.beat(ends=ends) for ends in range(6)]

    assert [*["continue"] * 5, "superseded"] == told


def test_leases_are_measured_with_the_clock_that_nobody_sets(tmp_path: Path) -> None:
    database = Database(SqliteStore(tmp_path / "control-plane.db"))
    before_s = time.monotonic()
    with database.read() as session:
        now_s = session.scalar(text("SELECT store_clock_s()"))
    database.close()

    assert now_s is not None
    assert before_s <= now_s <= time.monotonic()
