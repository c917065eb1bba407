"""Several files at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent_parts import a_result_file
from overmind_agent.files.lanes import LANES, Lanes
from overmind_agent.jobs import ResultFile
from overmind_agent.ports import ControlPlane
from overmind_agent.testing import FakeControlPlane, FakeServer, VirtualClock

DEADLINE_S = 10.0


@pytest.fixture
def files(tmp_path: Path) -> list[ResultFile]:
    return [a_result_file(tmp_path, f"{number}.txt") for number in range(9)]


@pytest.fixture
def made() -> list[ControlPlane]:
    return []


@pytest.fixture
def lanes(made: list[ControlPlane]) -> Lanes:
    def make() -> ControlPlane:
        made.append(FakeControlPlane(FakeServer()))
        return made[-1]

    return Lanes(make, VirtualClock())


def test_four_files_are_on_their_way_at_a_time_each_over_its_own_connection(
    lanes: Lanes, made: list[ControlPlane], files: list[ResultFile]
) -> None:
    together = threading.Barrier(LANES)
    seen: list[ControlPlane] = []

    def upload(plane: ControlPlane, _file: ResultFile) -> None:
        seen.append(plane)
        together.wait(DEADLINE_S)

    done = list(lanes.each(files[: 2 * LANES], upload))

    assert LANES == len(made) == len(set(map(id, seen)))
    assert {file.name for file in files[: 2 * LANES]} == {file.name for file in done}


def test_files_that_are_done_when_one_looks_come_in_their_order(files: list[ResultFile]) -> None:
    """With one lane that is the order given: what a job says last is about its last file."""
    uploaded = threading.Semaphore(0)
    lanes = Lanes(lambda: FakeControlPlane(FakeServer()), VirtualClock(), number=1)
    done = lanes.each(files, lambda _plane, _file: uploaded.release())

    first = next(done)
    for _ in files:
        assert uploaded.acquire(timeout=DEADLINE_S)
    rest = list(done)

    assert files == [first, *rest]


def test_connections_are_kept_for_the_next_job(
    lanes: Lanes, made: list[ControlPlane], files: list[ResultFile]
) -> None:
    for file in files:
        assert [file] == list(lanes.each([file], lambda _plane, _file: None))

    assert 1 == len(made)


def test_after_an_error_no_other_file_is_begun(lanes: Lanes, files: list[ResultFile]) -> None:
    begun: list[str] = []
    together = threading.Barrier(LANES)

    def upload(_plane: ControlPlane, file: ResultFile) -> None:
        begun.append(file.name)
        together.wait(DEADLINE_S)
        raise ValueError(file.name)

    with pytest.raises(ValueError, match="txt"):
        list(lanes.each(files, upload))

    assert len(begun) <= 2 * LANES


def test_without_files_nothing_is_made(lanes: Lanes, made: list[ControlPlane]) -> None:
    assert ([], []) == (list(lanes.each([], lambda _plane, _file: None)), made)
