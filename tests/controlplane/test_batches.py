"""Calls that come together: carried out in one transaction, and no concern of each other's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from overmind_agent import wire
from overmind_agent.lifecycle import Status
from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.jobs import agents
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.handing_over import HandingOver
from overmind_controlplane.jobs.reports import Reports
from overmind_controlplane.jobs.words import NewJob, Word
from overmind_controlplane.plane import open_database
from overmind_controlplane.record.batches import MOST, Batches
from overmind_controlplane.refusals import Conflict, NotFound
from overmind_controlplane.storage.blobs import Blobs
from overmind_controlplane.storage.files import NewRevision

SALT = "0" * 32
REVISION = NewRevision("a" * 96, SALT, "b" * 96, SALT, size=2, sha256="c" * 64, name="parameters.json")


class Halver:
    """Halves even numbers; keeps the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, asked: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(asked))
        return [ValueError(f"{number} is odd") if number % 2 else number // 2 for number in asked]


def ask_all(answer: Callable[[Sequence[int]], Sequence[int | Exception]], count: int) -> list[int | BaseException]:
    """The answers to 0, 1, 2… asked at once."""

    async def ask() -> list[int | BaseException]:
        batches = Batches(answer)
        return await asyncio.gather(*(batches.ask(number) for number in range(count)), return_exceptions=True)

    return asyncio.run(ask())


def test_calls_that_come_together_are_answered_together_each_with_its_own() -> None:
    halver = Halver()

    answers = ask_all(halver, 4)

    assert [[0, 1, 2, 3]] == halver.batches
    assert ["0", "1 is odd", "1", "3 is odd"] == [str(answer) for answer in answers]


def test_a_batch_has_a_limit_and_keeps_the_order() -> None:
    halver = Halver()

    ask_all(halver, MOST + 3)

    assert [list(range(MOST)), [MOST, MOST + 1, MOST + 2]] == halver.batches


def test_what_fails_as_a_whole_is_told_to_each() -> None:
    def fail(_asked: Sequence[int]) -> Sequence[int | Exception]:
        raise OSError("no room")

    assert ["no room", "no room"] == [str(answer) for answer in ask_all(fail, 2)]


def test_a_caller_that_goes_away_takes_nobody_along() -> None:
    async def ask() -> int:
        batches = Batches(Halver())
        gone = asyncio.create_task(batches.ask(2))
        stays = asyncio.create_task(batches.ask(4))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert 2 == asyncio.run(ask())


class Desk:
    """A board with jobs, one agent, and what is told about them at once."""

    def __init__(self, folder: Path, database_url: str | None, job_count: int) -> None:
        self.database, self.board = open_database(folder, database_url), Board(60.0)
        self.blobs = Blobs(folder / "blobs")
        with self.database.write() as session:
            make_project(session, "demo")
            self.caller = authenticate(session, make_token(session, "demo", Role.ADMIN)[0])
            self.agent_id = agents.register(session, self.caller).id
            new = NewJob("@overmind:inference", REVISION, None)
            self.job_ids = [self.board.create(session, self.caller, new).id for _ in range(job_count)]

    def tell(self, *words: tuple[str, Word]) -> list[object]:
        """The answers, in order; errors are among them."""

        async def say() -> list[object]:
            reports = Reports(self.database, self.board, HandingOver(self.board, self.blobs))
            told = (reports.say(self.caller, job_id, word) for job_id, word in words)
            return await asyncio.gather(*told, return_exceptions=True)

        return asyncio.run(say())

    def states(self) -> list[tuple[Status, int]]:
        """Status and attempt of every job, in the order in which they were made."""
        with self.database.read() as session:
            found = self.board.get_all(session, self.job_ids)
            return [(found[job_id].status, found[job_id].attempt) for job_id in self.job_ids]


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Desk]:
    """Three jobs that wait."""
    made = Desk(tmp_path, database_url, 3)
    yield made
    made.database.close()


@pytest.mark.parametrize("refused", ["superseded", "unknown"])
def test_a_refused_report_undoes_none_of_those_beside_it(desk: Desk, refused: str) -> None:
    agent_id, job_ids = desk.agent_id, desk.job_ids
    claims = [Word(Status.CLAIMED, agent_id=agent_id, key=job_id) for job_id in job_ids]
    words = list(zip(job_ids, claims, strict=True))
    words[1] = {
        "superseded": (job_ids[1], Word(Status.RUNNING, agent_id=agent_id, attempt=7)),
        "unknown": ("nothing", claims[1]),
    }[refused]

    answers = desk.tell(*words)

    assert [False, True, False] == [isinstance(answer, Conflict | NotFound) for answer in answers]
    assert [(Status.CLAIMED, 1), (Status.PENDING, 0), (Status.CLAIMED, 1)] == desk.states()


def test_a_claim_and_its_repeat_that_come_together_are_one_grant(desk: Desk) -> None:
    claim = (desk.job_ids[0], Word(Status.CLAIMED, agent_id=desk.agent_id, key="once"))

    answers = desk.tell(claim, claim)

    assert [1, 1] == [answer.attempt for answer in answers if isinstance(answer, wire.Job)]
    assert (Status.CLAIMED, 1) == desk.states()[0]


def test_a_report_and_its_repeat_that_come_together_are_one_step(desk: Desk) -> None:
    job_id = desk.job_ids[0]
    desk.tell((job_id, Word(Status.CLAIMED, agent_id=desk.agent_id, key="once")))
    checking = (job_id, Word(Status.VALIDATING, agent_id=desk.agent_id, attempt=1, sequence=1))

    answers = desk.tell(checking, checking)

    steps = [len(answer.status_history or []) for answer in answers if isinstance(answer, wire.Job)]
    assert [3, 3] == steps


def test_two_agents_that_claim_one_job_together_are_told_apart(desk: Desk) -> None:
    with desk.database.write() as session:
        other_id = agents.register(session, desk.caller).id
    claims = [Word(Status.CLAIMED, agent_id=agent_id, key="mine") for agent_id in (desk.agent_id, other_id)]

    answers = desk.tell(*((desk.job_ids[0], claim) for claim in claims))

    assert [False, True] == [isinstance(answer, Conflict) for answer in answers]
    assert (Status.CLAIMED, 1) == desk.states()[0]
