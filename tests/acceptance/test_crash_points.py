"""
Killed before each of its boundaries, or given an error there, an agent brings its job to the right end.

`make test` tries a share of the boundaries, `make chaos` all of them.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from crash_points import ENDS, KINDS, Bench, Swept

from server import start_control_plane
from small_jobs import comparable

AT_ONCE = 2  # an agent that starts waits for the disk half of the time
# Points of each sweep in `make test`.
KILLED = {
    "ledger": 1,
    "inference": 1,
    "uploaded_outputs_setup": 1,
    "judge_scoring": 1,
    "prompt_tuning": 1,
    "model_backtesting": 1,
}
KILLED_JOBS = {"ledger": 1, "inference": 1}
FAILING = {"ledger": 1, "inference": 1}
FAILING_JOBS = {"inference": 1}
ERRORS = ("ENOSPC", "EIO", "EMFILE", "EDQUOT", "EROFS", "ENOMEM")
# The aim is 3 s, on a machine that has nothing else to do. What came out stands in docs/testing.md.
RESUMED_S = 30.0
MOST_S = 120.0  # for a job that takes two seconds

T = TypeVar("T")
Judge = Callable[[Swept], Iterable[str]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("crash-points")
    (folder / "hosts").mkdir()
    with start_control_plane(folder, arguments=("--rate-limit", "0")) as plane:
        yield Bench(folder / "hosts", plane)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each sweep over its kinds of jobs: a share of them, or all."""
    share = SHARES.get(metafunc.definition.originalname)
    if share is not None:
        metafunc.parametrize("kind", KINDS if metafunc.config.getoption("--chaos") else share)


@pytest.mark.timeout(5400)
def test_an_agent_that_is_killed_anywhere_finishes_its_job(bench: Bench, kind: str, is_whole: bool) -> None:
    """
    The job is completed in its first attempt with the files of one to which nothing happened; work whose result was
    there is not done again, and no call of a model is made again but the one in flight.
    """
    points = _points(bench, kind, "agent", None if is_whole else KILLED[kind])

    swept = _swept(points, lambda n: bench.sweep(kind, f"{n}=kill"))

    _tell(f"{kind}: agent killed", swept)
    assert {} == _judged(swept, lambda one: _faults_of_a_killed_agent(one, bench.undisturbed(kind), kind))


@pytest.mark.timeout(5400)
def test_a_job_that_is_killed_anywhere_has_an_end(bench: Bench, kind: str, is_whole: bool) -> None:
    """
    A killed child is the job's failure, and says so; killed when its result was there, it changes nothing.

    Of a long job every tenth boundary: what its next life makes of each of them is seen in test_every_boundary.
    """
    points = _points(bench, kind, "job", None if is_whole else KILLED_JOBS[kind])
    points = points[:: 10 if len(points) > 100 else 1]

    swept = _swept(points, lambda n: bench.sweep(kind, f"{n}=kill", "job"))

    _tell(f"{kind}: job killed", swept)
    assert {} == _judged(swept, _faults_of_a_killed_job)


@pytest.mark.timeout(5400)
def test_an_error_of_the_disk_or_the_network_loses_no_job(bench: Bench, kind: str, is_whole: bool) -> None:
    """
    At every boundary one error of the system: the job ends, with the next start at the latest, and says how.

    An agent that has met each error at each boundary of one job meets one of them at each boundary of the others.
    """
    points = _points(bench, kind, "agent", None if is_whole else FAILING[kind])
    commits = {line.split()[0] for line in bench.undisturbed(kind).boundaries if line.endswith(" commit")}
    plans = [
        f"{n}={error}"
        for n in points
        for place, error in enumerate(ERRORS)
        if place == n % len(ERRORS) or (is_whole and kind == "ledger" and str(n) not in commits)
    ]

    swept = _swept(plans, lambda plan: bench.sweep(kind, plan))

    _tell(f"{kind}: error", swept)
    assert {} == _judged(swept, _faults_after_an_error)


@pytest.mark.timeout(5400)
def test_an_error_in_the_process_of_a_job_is_told(bench: Bench, kind: str, is_whole: bool) -> None:
    """The job ends as it would have, or fails and says why; its agent takes no harm."""
    points = _points(bench, kind, "job", None if is_whole else FAILING_JOBS[kind])
    points = points[:: 10 if len(points) > 100 else 1]

    swept = _swept(points, lambda n: bench.sweep(kind, f"{n}={ERRORS[n % len(ERRORS)]}", "job"))

    _tell(f"{kind}: error in the job", swept)
    assert {} == _judged(swept, _faults_after_an_error)


SHARES = {
    "test_an_agent_that_is_killed_anywhere_finishes_its_job": KILLED,
    "test_a_job_that_is_killed_anywhere_has_an_end": KILLED_JOBS,
    "test_an_error_of_the_disk_or_the_network_loses_no_job": FAILING,
    "test_an_error_in_the_process_of_a_job_is_told": FAILING_JOBS,
}


def _faults_of_a_killed_agent(swept: Swept, undisturbed: Swept, kind: str) -> Iterator[str]:
    yield from _faults(swept)
    if swept.history.count("Claimed") != 1 or swept.history[-1] != "Completed":
        yield f"it went {swept.history}: {swept.message}"
    if not undisturbed.calls <= swept.calls <= undisturbed.calls + 1:
        yield f"{swept.calls} calls, and not {undisturbed.calls}"
    is_exact = swept.calls == undisturbed.calls and not swept.in_flight  # a call that was never sent counts as paid
    expected, found = (
        comparable(one.files, KINDS[kind].job.pictures, is_exact=is_exact) for one in (undisturbed, swept)
    )
    yield from (f"{name} differs" for name in expected if expected[name] != found.get(name))
    if sorted(undisturbed.files) != sorted(swept.files):
        yield f"its files are {sorted(swept.files)}"


def _faults_of_a_killed_job(swept: Swept) -> Iterator[str]:
    yield from _faults(swept)
    if swept.history.count("Claimed") != 1 or swept.history[-1] not in ENDS:
        yield f"it went {swept.history}: {swept.message}"


def _faults_after_an_error(swept: Swept) -> Iterator[str]:
    yield from _faults(swept)
    if swept.history[-1] not in ENDS:
        yield f"it went {swept.history}: {swept.message}"
    if swept.code not in (0, 1, 69, 73):
        yield f"the agent ended with {swept.code}: {swept.story}"
    if swept.took_s > MOST_S:
        yield f"it took {swept.took_s:.0f} s: {swept.story}"


def _faults(swept: Swept) -> Iterator[str]:
    if swept.had_result and swept.again:
        yield "work was done again though its result was there"
    if swept.left:
        yield f"{swept.left} statuses were never delivered"
    if swept.children:
        yield f"processes are left: {swept.children}"
    if swept.resumed_s is not None and swept.resumed_s > RESUMED_S:
        yield f"the next start said nothing of the job for {swept.resumed_s:.1f} s"


def _points(bench: Bench, kind: str, whose: str, most: int | None) -> list[int]:
    """All boundaries, or *most* that are spread over them."""
    number = len(bench.undisturbed(kind, whose).boundaries)
    return [place * (number + 1) // (most + 1) for place in range(1, most + 1)] if most else [*range(1, number + 1)]


def _swept(points: Iterable[T], sweep: Callable[[T], Swept]) -> list[Swept]:
    with ThreadPoolExecutor(AT_ONCE) as several:
        return list(several.map(sweep, points))


def _judged(swept: Iterable[Swept], judge: Judge) -> dict[str, list[str]]:
    found = [(one.where, list(judge(one))) for one in swept]
    return {where: faults for where, faults in found if faults}


def _tell(what: str, swept: list[Swept]) -> None:
    """What came of a sweep, for whoever looks at `make chaos`."""
    ends = Counter(_end_of(one) for one in swept)
    resumed_s = sorted(one.resumed_s for one in swept if one.resumed_s is not None)
    took_s = sorted(one.took_s for one in swept)
    said = f"{what}: {len(swept)} points, ends {dict(ends)}, took at most {took_s[-1]:.1f} s"
    if resumed_s:
        said += f"; first word p50 {statistics.median(resumed_s):.2f} s, at most {resumed_s[-1]:.2f} s"
    print(said, flush=True)  # noqa: T201


def _end_of(swept: Swept) -> str:
    reason = (swept.message or "").partition(":")[0] if swept.history[-1] == "Failed" else ""
    return f"{swept.history[-1]} {reason}".strip()
