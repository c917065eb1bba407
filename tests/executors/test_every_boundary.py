"""
A tuning job and a backtest are killed before each of their boundaries, and started again: they end with the files
of an undisturbed job, byte for byte but for the clock, and pay again for the call in flight alone.

`make test` tries a share of the boundaries, `make validity` all of them.
"""

from __future__ import annotations

import random
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from child_process import Child

import small_jobs
from overmind_agent.testing import fail_points
from overmind_executors.contract import ModelEndpoint
from small_jobs import SmallJob, comparable, timeless
from zoo import Zoo

SHARE = {"prompt_tuning": 2, "model_backtesting": 1}  # boundaries that `make test` tries
PATIENCE_S = 300  # a whole sweep takes long enough for the machine to have other work, too
KINDS = {job.job_type: job for job in (small_jobs.PROMPT_TUNING, small_jobs.MODEL_BACKTESTING)}


@dataclass
class Undisturbed:
    """What a job makes that nobody disturbs."""

    kind: SmallJob
    files: Mapping[str, Any]
    outcome: Any
    calls: int
    boundaries: list[str] = field(default_factory=list)


def _start(folder: Path, zoo: Zoo, kind: SmallJob, *, attempt: int, plan: str = "") -> Child:
    armed = fail_points.environment(plan, whose="job", log=folder.parent / "boundaries") if plan else {}
    child = Child(folder, environment=armed)
    models = [
        asdict(ModelEndpoint(name, zoo.url, name, max_concurrency=1, input_price=1.0, output_price=1.0))
        for name in kind.models
    ]
    return child.order(job_type=kind.job_type, attempt=attempt, parameters=dict(kind.parameters), models=models)


def _made(folder: Path, job: SmallJob, *, is_exact: bool) -> dict[str, Any]:
    """The result files; *is_exact*: also those that say how many calls were made."""
    files = {path.name: path.read_bytes() for path in (folder / "output").iterdir()}
    return comparable(files, job.pictures, is_exact=is_exact)


@pytest.fixture(scope="module", params=KINDS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What such a job makes, and its boundaries."""
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp("undisturbed") / "workspace"
    with Zoo(kind.models) as zoo:
        child = _start(folder, zoo, kind, attempt=1, plan="0=kill")
        result = child.result(PATIENCE_S)
        child.close()
        calls = zoo.total
    boundaries = (folder.parent / "boundaries").read_text().splitlines()
    made = _made(folder, kind, is_exact=True)
    return Undisturbed(kind, made, timeless(result["outcome"]), calls, boundaries)


@pytest.mark.timeout(4 * 3600)
def test_killed_at_any_boundary_it_ends_the_same_and_pays_for_nothing_twice(
    undisturbed: Undisturbed, tmp_path: Path, is_whole: bool, seed: int
) -> None:
    points = range(1, len(undisturbed.boundaries) + 1)
    tried = points if is_whole else random.Random(seed).sample(points, SHARE[undisturbed.kind.job_type])

    faults = {}
    for done, point in enumerate(tried, start=1):
        if found := list(_faults(undisturbed, tmp_path / str(point), point)):
            faults[undisturbed.boundaries[point - 1]] = found
            print(point, found, flush=True)  # noqa: T201 - a whole sweep takes long: what it finds is told at once
        if done % 20 == 0:
            print(f"{undisturbed.kind.job_type}: {done} of {len(tried)}", flush=True)  # noqa: T201

    assert {} == faults


def _faults(expected: Undisturbed, place: Path, point: int) -> Iterator[str]:
    """What is wrong with a job that was killed at boundary number *point*."""
    place.mkdir()
    folder, kind = place / "workspace", expected.kind
    with Zoo(kind.models) as zoo:
        first = _start(folder, zoo, kind, attempt=1, plan=f"{point}=kill")
        code = first.wait(PATIENCE_S)
        first.close()
        if code != -signal.SIGKILL:
            yield f"it was not killed: {code}"
        before, in_flight = zoo.total, _in_flight(folder)
        second = _start(folder, zoo, kind, attempt=2)
        result = second.result(PATIENCE_S)
        second.close()
        if not expected.calls <= zoo.total <= expected.calls + in_flight:
            yield f"{zoo.total} calls, {before} of them before the kill and {in_flight} in flight"
        is_exact = zoo.total == expected.calls and not in_flight
    if expected.outcome != timeless(result.get("outcome")):
        yield f"the outcome differs: {result}"
    made = _made(folder, kind, is_exact=is_exact)
    yield from (f"{name} differs" for name in made if made[name] != expected.files[name])


def _in_flight(folder: Path) -> int:
    """Calls that were sent, and whose answer is not on disk."""
    journal = folder / "state" / "paid_calls.sqlite"
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM call WHERE state = 'sent'").fetchone()[0])
        except sqlite3.OperationalError:  # killed before there was a table
            return 0
