"""Calls that come together: carried out in one transaction, and no concern of each other's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from overmind_agent.lifecycle import Status
from overmind_controlplane import agents
from overmind_controlplane.access import Role, authenticate, make_project, make_token
from overmind_controlplane.batches import MOST, Batches
from overmind_controlplane.board import Board
from overmind_controlplane.files import NewRevision
from overmind_controlplane.plane import open_database
from overmind_controlplane.refusals import Conflict, NotFound
from overmind_controlplane.reports import Reports
from overmind_controlplane.words import NewJob, Word

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


@pytest.mark.parametrize("refused", ["superseded", "unknown"])
def test_a_refused_report_undoes_none_of_those_beside_it(
    tmp_path: Path, database_url: str | None, refused: str
) -> None:
    database, board = open_database(tmp_path, database_url), Board(60.0)
    with database.write() as session:
        make_project(session, "demo")
        caller = authenticate(session, make_token(session, "demo", Role.ADMIN)[0])
        agent_id = agents.register(session, caller).id
        job_ids = [
            board.create(session, caller, NewJob("@overmind:inference", REVISION, None)).id for _ in range(3)
        ]
    claims = [Word(Status.CLAIMED, agent_id=agent_id, key=job_id) for job_id in job_ids]
    words = list(zip(job_ids, claims, strict=True))
    words[1] = {
        "superseded": (job_ids[1], Word(Status.RUNNING, agent_id=agent_id, attempt=7)),
        "unknown": ("nothing", claims[1]),
    }[refused]

    async def say() -> list[object]:
        reports = Reports(database, board)
        told = (reports.say(caller, job_id, word) for job_id, word in words)
        return await asyncio.gather(*told, return_exceptions=True)

    answers = asyncio.run(say())

    with database.read() as session:
        states = [(job.status, job.attempt) for job in board.get_all(session, job_ids).values()]
    database.close()
    assert [False, True, False] == [isinstance(answer, Conflict | NotFound) for answer in answers]
    assert [(Status.CLAIMED, 1), (Status.CLAIMED, 1), (Status.PENDING, 0)] == sorted(states)
