"""
Killed before each of its boundaries, or given an error there, an agent brings its job to the right end.

`make test` tries a share of the boundaries, `make chaos` all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crash_points import KINDS, Bench, Swept
from host import Submitter

from server import ControlPlaneProcess
from zoo import Zoo

AT_ONCE = 2  # an agent that starts waits for the disk half of the time
SHARE = 3  # points of each sweep in `make test`
ERRORS = ("ENOSPC", "EIO", "EMFILE", "EDQUOT", "EROFS", "ENOMEM")
ENDS = ("Completed", "Failed")

Judge = Callable[[Swept], Iterable[str]]


@pytest.fixture
def bench(tmp_path: Path, plane: ControlPlaneProcess, zoo: Zoo, submitter: Submitter) -> Bench:
    folder = tmp_path / "hosts"
    folder.mkdir()
    return Bench(folder, plane.url, plane.agent_token, zoo.url, submitter)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_that_is_killed_anywhere_finishes_its_job(bench: Bench, kind: str, is_whole: bool) -> None:
    """The job is completed in its first attempt, and work whose result was there is not done again."""
    points = _points(len(bench.boundaries(kind, "agent")), is_whole)

    faults = _sweep(points, lambda n: bench.sweep(kind, f"{n}=kill"), _faults_of_a_killed_agent)

    assert {} == faults


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_killed_anywhere_has_an_end(bench: Bench, kind: str, is_whole: bool) -> None:
    """A killed child is the job's failure, and says so; killed when its result was there, it changes nothing."""
    points = _points(len(bench.boundaries(kind, "job")), is_whole)

    faults = _sweep(points, lambda n: bench.sweep(kind, f"{n}=kill", "job"), _faults_of_a_killed_job)

    assert {} == faults


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_disk_or_the_network_loses_no_job(bench: Bench, kind: str, is_whole: bool) -> None:
    """At every boundary one error of the system: the job ends, with the next start at the latest, and says how."""
    points = _points(len(bench.boundaries(kind, "agent")), is_whole, first=2)

    faults = _sweep(points, lambda n: bench.sweep(kind, f"{n}={ERRORS[n % len(ERRORS)]}"), _faults_after_an_error)

    assert {} == faults


def _faults_of_a_killed_agent(swept: Swept) -> Iterator[str]:
    yield from _faults(swept)
    if swept.history.count("Claimed") != 1 or swept.history[-1] != "Completed":
        yield f"it went {swept.history}: {swept.message}"


def _faults_of_a_killed_job(swept: Swept) -> Iterator[str]:
    yield from _faults(swept)
    if swept.history.count("Claimed") != 1 or swept.history[-1] not in ENDS:
        yield f"it went {swept.history}: {swept.message}"


def _faults_after_an_error(swept: Swept) -> Iterator[str]:
    yield from _faults(swept)
    if swept.history[-1] not in ENDS:
        yield f"it went {swept.history}: {swept.message}"
    if swept.code not in (0, 1, 69, 73):
        yield f"the agent ended with {swept.code}: {swept.said}"


def _faults(swept: Swept) -> Iterator[str]:
    before, after = swept.runs
    if swept.had_result and before != after:
        yield "work was done again though its result was there"
    if swept.left:
        yield f"{swept.left} statuses were never delivered"
    if swept.children:
        yield f"processes are left: {swept.children}"


def _points(number: int, is_whole: bool, *, first: int = 1) -> list[int]:
    assert number > SHARE
    return list(range(1, number + 1) if is_whole else range(first, number + 1, number // SHARE))


def _sweep(points: Iterable[int], sweep: Callable[[int], Swept], judge: Judge) -> dict[str, list[str]]:
    with ThreadPoolExecutor(AT_ONCE) as several:
        found = [(swept.where, list(judge(swept))) for swept in several.map(sweep, points)]
    return {where: faults for where, faults in found if faults}
