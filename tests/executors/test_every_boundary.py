"""
A tuning job and a backtest are killed before each of their boundaries, and started again: they end with the files
of an undisturbed job, byte for byte but for the clock, and pay again for the call in flight alone.

`make test` tries a share of the boundaries, `make validity` all of them. The first one tried, and the undisturbed
job, are started from scratch; all others are forked, as a daemon's jobs are.
"""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from child_process import order_of
from lives import Live, forking, started

import small_jobs
from overmind_agent.testing import fail_points
from overmind_executors.contract import ModelEndpoint
from small_jobs import SmallJob, comparable, in_flight, timeless
from zoo import Zoo

SHARE = {"prompt_tuning": 2, "model_backtesting": 1}  # boundaries that `make test` tries
AT_ONCE = 2
# Of two threads of a job either may come first to its next boundary, and to the one after that.
_AHEAD = 2
KINDS = {job.job_type: job for job in (small_jobs.PROMPT_TUNING, small_jobs.MODEL_BACKTESTING)}


@dataclass(frozen=True)
class Undisturbed:
    """What a job makes that nobody disturbs."""

    kind: SmallJob
    files: Mapping[str, Any]
    outcome: Any
    calls: int
    boundaries: list[str]


class Bench:
    """
    Jobs in folders of their own.

    Attributes:
        live: how a process is had for them.
    """

    def __init__(self, kind: SmallJob, live: Live) -> None:
        self._kind = kind
        self._live = live

    def life(self, folder: Path, zoo: Zoo, *, attempt: int, plan: str = "") -> int:
        """One life of the job whose workspace is *folder*; returns its exit code."""
        log = folder.parent / "boundaries"
        armed = fail_points.environment(plan, whose="job", log=log) if plan else {}
        models = [
            asdict(ModelEndpoint(name, zoo.url, name, max_concurrency=1, input_price=1.0, output_price=1.0))
            for name in self._kind.models
        ]
        order = order_of(
            job_type=self._kind.job_type, attempt=attempt, parameters=dict(self._kind.parameters), models=models
        )
        return self._live(folder, order, armed)

    def made(self, folder: Path, *, is_exact: bool) -> dict[str, Any]:
        """The result files; *is_exact*: also those that say how many calls were made."""
        files = {path.name: path.read_bytes() for path in (folder / "output").iterdir()}
        return comparable(files, self._kind.pictures, is_exact=is_exact)


@pytest.fixture(scope="module", params=KINDS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What such a job makes, and its boundaries."""
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp("undisturbed") / "workspace"
    bench = Bench(kind, started)
    with Zoo(kind.models) as zoo:
        code = bench.life(folder, zoo, attempt=1, plan="0=kill")
        calls = zoo.total
    assert 0 == code, (folder / "job.log").read_text()
    return Undisturbed(kind, bench.made(folder, is_exact=True), _outcome(folder), calls, _boundaries(folder.parent))


@pytest.mark.timeout(4 * 3600)
def test_killed_at_any_boundary_it_ends_the_same_and_pays_for_nothing_twice(
    undisturbed: Undisturbed, tmp_path: Path, is_whole: bool, seed: int
) -> None:
    points = range(1, len(undisturbed.boundaries) + 1)
    share = SHARE[undisturbed.kind.job_type]
    first, *others = random.Random(seed).sample(points, len(points) if is_whole else share)

    faults = {first: list(_faults(undisturbed, tmp_path / str(first), first, started))}
    with _lives_of(others, tmp_path / "site") as live, ThreadPoolExecutor(AT_ONCE) as at_once:
        told = _Told(undisturbed.kind.job_type, len(others))

        def sweep(point: int) -> tuple[int, list[str]]:
            return point, told.of(point, list(_faults(undisturbed, tmp_path / str(point), point, live)))

        faults.update(at_once.map(sweep, sorted(others)))

    wrong = {point: found for point, found in sorted(faults.items()) if found}
    assert {} == {f"{point} {undisturbed.boundaries[point - 1]}": found for point, found in wrong.items()}


@contextmanager
def _lives_of(points: list[int], site: Path) -> Iterator[Live]:
    """Forked, if there is anything to fork for."""
    if not points:
        yield started
        return
    site.mkdir()
    with forking(site) as live:
        yield live


class _Told:
    """A whole sweep takes long: what it finds is told at once. Safe from any thread."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def of(self, point: int, found: list[str]) -> list[str]:
        with self._lock:
            self._done += 1
            if found:
                print(point, found, flush=True)  # noqa: T201 - see above
            if self._done % 20 == 0:
                print(f"{self._name}: {self._done} of {self._total}", flush=True)  # noqa: T201 - see above
        return found


def _faults(expected: Undisturbed, place: Path, point: int, live: Live) -> Iterator[str]:
    """What is wrong with a job that was killed at boundary number *point*."""
    place.mkdir()
    folder, bench = place / "workspace", Bench(expected.kind, live)
    with Zoo(expected.kind.models) as zoo:
        code = bench.life(folder, zoo, attempt=1, plan=f"{point}=kill")
        if code != -signal.SIGKILL:
            yield f"it was not killed: {code}"
        passed = _boundaries(place)
        others = Counter(passed) - Counter(expected.boundaries[: point + _AHEAD])
        if len(passed) != point or others:
            yield f"it came through other boundaries: {len(passed)} of them, and {sorted(others)}"
        before, unanswered = zoo.total, in_flight(folder / "state")
        code = bench.life(folder, zoo, attempt=2)
        if not expected.calls <= zoo.total <= expected.calls + unanswered:
            yield f"{zoo.total} calls, {before} of them before the kill and {unanswered} in flight"
        is_exact = zoo.total == expected.calls and not unanswered
    if code != 0:
        yield f"its second life ended with {code}: {(folder / 'job.log').read_text()[-2000:]}"
        return
    if expected.outcome != (outcome := _outcome(folder)):
        yield f"the outcome differs: {outcome}"
    made = bench.made(folder, is_exact=is_exact)
    yield from (f"{name} differs" for name in made if made[name] != expected.files[name])


def _outcome(folder: Path) -> Any:
    return timeless(json.loads((folder / "result.json").read_text()).get("outcome"))


def _boundaries(place: Path) -> list[str]:
    """Those that were passed in *place*, the last one not; the same in every place."""
    lines = (place / "boundaries").read_text().replace(str(place), "").splitlines()
    return [line.partition(" ")[2] for line in lines]
