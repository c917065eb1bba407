"""
The control plane's board on SQLite, beside a model of a page: whatever is said to both in whatever order, both give
the same answer, and the job is afterwards as the model says.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from overmind_agent import wire
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.jobs import agents, heartbeats, sweeper
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.handing_over import HandingOver
from overmind_controlplane.jobs.reports import Reports
from overmind_controlplane.jobs.words import NewJob, Word
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.stores import SqliteStore
from overmind_controlplane.record.tables import Job
from overmind_controlplane.refusals import Conflict, Invalid
from overmind_controlplane.storage.blobs import Blobs
from overmind_controlplane.storage.files import NewRevision

LEASE_S = 10.0
SALT = "0" * 32
REVISION = NewRevision("a" * 96, SALT, "b" * 96, SALT, size=2, sha256="c" * 64, name="parameters.json")
MISSING = {"files": [{"name": "output", "size_bytes": 1, "sha256": "d" * 64}]}
AGENTS = 3  # the last one has no lease
# What a holder says, in some order; PENDING is a release.
SAID = st.sampled_from(
    [Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.UPLOADING, Status.COMPLETED, Status.PENDING]
)
ORDER = (Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.COMPLETED)
FACTS = (Job.id, Job.status, Job.attempt, Job.sequence, Job.lost_attempts, Job.ends, Job.holder)
OTHERWISE = st.sampled_from([Status.PENDING, Status.CANCELED, Status.CREATED, *Status])


@dataclass
class ModelJob:
    """What the protocol says of one job."""

    max_attempts: int
    status: Status = Status.PENDING
    attempt: int = 0
    sequence: int = 0
    lost: int = 0
    ends: int = 0
    ends_now: int = 0
    holder: int | None = None
    lease_until_s: float | None = None
    declares: bool = False
    said: dict[int, Word] = field(default_factory=dict)
    last: tuple[int | None, str | None] = (None, None)

    def move(self, to: Status, agent: int | None, message: str | None) -> str:
        """What `illegal_transition` is about."""
        if to not in LIFECYCLE[self.status].next:
            return "illegal_transition"
        self.status, self.last = to, (agent, message)
        if LIFECYCLE[to].is_final:
            self.lease_until_s = None
        elif not LIFECYCLE[to].is_held:
            self.holder, self.lease_until_s = None, None
        return "ok"


class Model:
    """The rules of `docs/protocol.md`, in as few lines as possible."""

    def __init__(self) -> None:
        self.keys: dict[tuple[int, str], tuple[str, int]] = {}

    def claim(self, job_id: str, job: ModelJob, agent: int, key: str, now_s: float) -> str:
        granted = self.keys.get((agent, key))
        if granted is not None:
            if granted[0] != job_id:
                return "invalid"
            return "ok" if (granted[1], agent) == (job.attempt, job.holder) else "superseded"
        if LIFECYCLE[job.status].is_held:
            return "claim_taken"
        if job.status is not Status.PENDING:
            return "illegal_transition"
        job.move(Status.CLAIMED, agent, None)
        job.attempt, job.sequence, job.holder, job.declares = job.attempt + 1, 0, agent, False
        job.ends_now = 0
        job.said = {}
        job.lease_until_s = now_s + LEASE_S if agent < AGENTS - 1 else None
        self.keys[agent, key] = (job_id, job.attempt)
        return "ok"

    def report(self, job: ModelJob, agent: int, word: Word) -> str:
        if word.attempt != job.attempt:
            return "superseded"
        if word.status is job.status is Status.CANCELED:
            return "ok"
        assert word.sequence is not None
        if word.sequence <= job.sequence:
            return "ok" if job.said.get(word.sequence) == word else "invalid"
        if job.holder is None or agent != job.holder:
            return "superseded"
        if word.sequence != job.sequence + 1:
            return "expected_sequence"
        if word.status is Status.COMPLETED is not job.status and job.declares and job.status is Status.UPLOADING:
            return "files_missing"
        answer = job.move(word.status, agent, word.message)
        if answer == "ok":
            job.sequence = word.sequence
            job.said[word.sequence] = word
            job.declares = job.declares or bool(word.detail)
        return answer

    def cancel(self, job: ModelJob) -> str:
        return "ok" if job.status is Status.CANCELED else job.move(Status.CANCELED, None, None)

    def lose(self, job: ModelJob) -> None:
        job.lost += 1
        is_over = job.lost >= job.max_attempts or self.ends_agents(job)
        job.move(Status.FAILED if is_over else Status.PENDING, job.holder, None)

    def resume(self, job: ModelJob, ends: int) -> None:
        if ends > job.ends_now:
            job.ends, job.ends_now = job.ends + ends - job.ends_now, ends
            if self.ends_agents(job):
                job.move(Status.FAILED, job.holder, None)

    @staticmethod
    def ends_agents(job: ModelJob) -> bool:
        return job.ends > 0 and job.lost + job.ends >= max(3, job.max_attempts)

    def directive(self, job: ModelJob, agent: int, attempt: int) -> str:
        if (job.holder, job.attempt) != (agent, attempt):
            return "superseded"
        if job.status is Status.CANCELED:
            return "cancel"
        return "continue" if LIFECYCLE[job.status].is_held else "superseded"


class Plane:
    """One board for all examples; each has jobs and agents of its own."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.database = Database(SqliteStore(folder / "plane.db", lambda: self.now_s))
        self.board = Board(LEASE_S)
        self.reports = Reports(self.database, self.board, HandingOver(self.board, Blobs(folder / "blobs")))
        self.runner = asyncio.Runner()
        with self.database.write() as session:
            make_project(session, "demo")
            self.caller = authenticate(session, make_token(session, "demo", Role.ADMIN)[0])
        sweeper.sweep(self.database, self.board)

    def close(self) -> None:
        self.runner.close()
        self.database.close()


def machine(plane: Plane) -> type[RuleBasedStateMachine]:
    """The machine over *plane*."""

    class BoardMachine(RuleBasedStateMachine):
        jobs = Bundle("jobs")

        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            self.known: dict[str, ModelJob] = {}
            with plane.database.write() as session:
                made = [agents.register(session, plane.caller) for _ in range(AGENTS)]
                for agent in made[:-1]:
                    agent.capabilities = ["lease", "fence"]
                self.agents = [agent.id for agent in made]

        @rule(target=jobs, max_attempts=st.integers(1, 3))
        def submit(self, max_attempts: int) -> str:
            new = NewJob("@overmind:inference", REVISION, None, max_attempts=max_attempts)
            with plane.database.write() as session:
                job_id = plane.board.create(session, plane.caller, new).id
            self.known[job_id] = ModelJob(max_attempts)
            return job_id

        @rule(job_id=jobs, agent=st.integers(0, AGENTS - 1), key=st.sampled_from("abcdefgh"))
        def claim(self, job_id: str, agent: int, key: str) -> None:
            expected = self.model.claim(job_id, self.known[job_id], agent, key, plane.now_s)

            assert expected == self._say(job_id, Word(Status.CLAIMED, agent_id=self.agents[agent], key=key))

        @rule(
            job_id=jobs,
            status=SAID,
            declares=st.booleans(),
            message=st.sampled_from([None, "a", "b"]),
            ahead=st.sampled_from([1, 1, 1, 2]),
        )
        def report_as_its_holder(
            self, job_id: str, status: Status, declares: bool, message: str | None, ahead: int
        ) -> None:
            job = self.known[job_id]
            detail = MISSING if declares and status is Status.UPLOADING else {}
            word = Word(status, None, job.attempt, job.sequence + ahead, None, message, detail)
            self._report(job_id, job.holder or 0, word)

        @rule(job_id=jobs)
        def go_on(self, job_id: str) -> None:
            """The next status of a life that goes well, so that the later ones are met, too."""
            job = self.known[job_id]
            following = [status for status in ORDER if status in LIFECYCLE[job.status].next]
            if job.holder is not None and following:
                self._report(job_id, job.holder, Word(following[0], None, job.attempt, job.sequence + 1))

        @rule(
            job_id=jobs,
            agent=st.integers(0, AGENTS - 1),
            status=st.one_of(SAID, OTHERWISE).filter(lambda status: status is not Status.CLAIMED),
            older=st.integers(-1, 1),
            later=st.integers(-2, 2),
        )
        def report_anything(self, job_id: str, agent: int, status: Status, older: int, later: int) -> None:
            job = self.known[job_id]
            self._report(job_id, agent, Word(status, None, job.attempt - older, max(1, job.sequence + later)))

        @rule(job_id=jobs)
        def say_the_last_word_again(self, job_id: str) -> None:
            job = self.known[job_id]
            if job.sequence and job.holder is not None:
                self._report(job_id, job.holder, job.said[job.sequence])

        @rule(job_id=jobs)
        def cancel(self, job_id: str) -> None:
            expected = self.model.cancel(self.known[job_id])

            assert expected == self._say(job_id, Word(Status.CANCELED))

        @rule(agent=st.integers(0, AGENTS - 1), older=st.integers(0, 1), ends=st.sampled_from([0, 0, 0, 1, 2]))
        def beat(self, agent: int, older: int, ends: int) -> None:
            lines = [
                wire.HeldJob(job_id=job_id, attempt=max(1, job.attempt - older), ends=ends)
                for job_id, job in self.known.items()
            ]
            for line in lines:
                if self.model.directive(self.known[line.job_id], agent, line.attempt) == "continue":
                    self.model.resume(self.known[line.job_id], ends)
            expected = [self.model.directive(self.known[line.job_id], agent, line.attempt) for line in lines]
            for line, directive in zip(lines, expected, strict=True):
                job = self.known[line.job_id]
                if directive == "continue" and job.lease_until_s is not None:
                    job.lease_until_s = plane.now_s + LEASE_S
            with plane.database.note() as session:
                who = agents.get(session, plane.caller, self.agents[agent])
                beat = wire.Heartbeat(slots=1, draining=False, wait_s=0, jobs=lines)
                heartbeats.arrive(session, plane.caller, plane.board, who, beat)
                told = heartbeats.orders(session, plane.caller, plane.board, who, lines)

            assert expected == [order.directive for order in told]

        @rule(seconds=st.integers(1, 5))
        def time_passes(self, seconds: int) -> None:
            """The sweep never waits for longer than five seconds, or it would give all leases anew."""
            plane.now_s += seconds
            for job in self.known.values():
                if job.lease_until_s is not None and job.lease_until_s <= plane.now_s:
                    self.model.lose(job)
            sweeper.sweep(plane.database, plane.board)

        @invariant()
        def the_board_is_as_the_model_says(self) -> None:
            with plane.database.read() as session:
                there = {
                    job_id: facts
                    for job_id, *facts in session.execute(select(*FACTS).where(Job.id.in_(self.known)))
                }
            expected = {
                job_id: [
                    job.status,
                    job.attempt,
                    job.sequence,
                    job.lost,
                    job.ends,
                    None if job.holder is None else self.agents[job.holder],
                ]
                for job_id, job in self.known.items()
            }
            assert expected == there

        def teardown(self) -> None:
            """The next example does not have to wait for the leases of this one."""
            with plane.database.write() as session:
                for job in plane.board.get_all(session, list(self.known)).values():
                    if not LIFECYCLE[job.status].is_final:
                        plane.board.cancel(session, plane.caller, job)

        def _report(self, job_id: str, agent: int, word: Word) -> None:
            said = Word(
                word.status, self.agents[agent], word.attempt, word.sequence, None, word.message, word.detail
            )
            expected = self.model.report(self.known[job_id], agent, said)

            assert expected == self._say(job_id, said)

        @staticmethod
        def _say(job_id: str, word: Word) -> str:
            try:
                plane.runner.run(plane.reports.say(plane.caller, job_id, word))
            except Conflict as error:
                return error.code
            except Invalid:
                return "invalid"
            return "ok"

    return BoardMachine


@contextmanager
def _plane() -> Iterator[Plane]:
    """In memory where there is such a folder: what is tested here is not the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        plane = Plane(Path(folder))
        try:
            yield plane
        finally:
            plane.close()


@pytest.mark.timeout(900)
def test_the_board_does_what_its_model_does(examples: settings) -> None:
    with _plane() as plane:
        made: Any = machine(plane)
        run_state_machine_as_test(made, settings=examples)
