"""
Seeded schedules of agents, kills and power cuts: no promise is broken in any of them.

`make test` tries a share, `make chaos` ten thousand. A schedule that breaks a promise is run again with

    pytest tests/stateful/test_simulation.py --seed SEED
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from simulation import Ran, simulate

SHARE, WHOLE = 100, 10_000
TIMES = 10  # that a schedule is run to see whether it is the same


def _ran(seed: int, place: Path) -> tuple[int, Ran]:
    return seed, simulate(seed, place / str(multiprocessing.current_process().pid))


def _all(seeds: range, place: Path) -> list[tuple[int, Ran]]:
    """In two processes, where it is worth starting them."""
    if len(seeds) <= SHARE:
        return [_ran(seed, place) for seed in seeds]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as several:
        return list(several.map(_ran, seeds, [place] * len(seeds), chunksize=100))


@pytest.mark.timeout(1800)
def test_no_schedule_breaks_a_promise(place: Path, is_whole: bool, seed: int) -> None:
    first = seed * WHOLE
    began_s = time.monotonic()

    ran = _all(range(first, first + (WHOLE if is_whole else SHARE)), place)

    lost_bytes = [one.lost_bytes for _, one in ran if one.lost_bytes]
    took_s = time.monotonic() - began_s
    print(f"{len(ran)} schedules in {took_s:.0f} s, {len(lost_bytes)} with a power cut that took something")  # noqa: T201
    assert {} == {number: (one.violations, one.trace) for number, one in ran if one.violations}
    assert len(lost_bytes) > len(ran) // 20


def test_a_schedule_is_the_same_whenever_it_is_run(place: Path, is_whole: bool, seed: int) -> None:
    """What failed once fails again, however often it is looked at."""
    for number in range(seed * WHOLE, seed * WHOLE + (TIMES if is_whole else 2)):
        traces = [_ran(number, place)[1].trace for _ in range(TIMES if is_whole else 2)]

        assert [traces[0]] * len(traces) == traces
