"""
How often prompt_tuning promotes: when nothing can be gained, when there is a gain, and how true its intervals are.

    make gate        or: .venv/bin/python benchmarks/tuning_gate.py [JOBS]

Whole jobs over coins in place of a model (`tests/tuning_bench.py`): the search with GEPA, then the one test.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from overmind_executors.figures import wilson_interval
from overmind_executors.tuning.gepa_search import gepa_search
from overmind_executors.tuning.search import best_of_n
from tuning_bench import Simulated, simulate


def jobs(number: int, folder: Path, **how: object) -> list[Simulated]:
    """So many jobs, each with its own rows, coins and search."""
    return [simulate(seed, folder, gepa_search, **how) for seed in range(number)]  # type: ignore[arg-type]


def told(name: str, found: list[Simulated], is_hit: Callable[[Simulated], bool]) -> str:
    """A line of the table."""
    hits = sum(map(is_hit, found))
    low, high = wilson_interval(hits, len(found))
    return f"{name:<58} {hits:>5} of {len(found):<5} {hits / len(found):6.1%}  ({low:.1%} to {high:.1%})"


def covers(one: Simulated) -> bool:
    """Whether the interval of the gain holds the true one."""
    found = one.verdict.comparison if one.verdict else None
    if found is None or found.low is None or found.high is None:
        return False
    return found.low <= one.true_gain <= found.high


def main(number: int) -> None:
    """Print the table."""
    began_s = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        null = jobs(number, folder)
        once = jobs(number, folder, repeats=1)
        control = [simulate(seed, folder, best_of_n) for seed in range(number)]
        better = jobs(number, folder, gain=lambda _n: 0.1, rows=(20, 20, 100))
        mixed = jobs(number, folder, gain=lambda n: 0.02 * (n % 6), rows=(20, 20, 100))
    print(told("no gain: the search claims one", null, lambda one: one.claimed > 0))
    print(told("no gain: promoted, 40 rows asked 3 times", null, lambda one: one.promoted))
    print(told("no gain: promoted, 40 rows asked once", once, lambda one: one.promoted))
    print(told("no gain: promoted, best of n in place of GEPA", control, lambda one: one.promoted))
    tested = [one for one in better if one.verdict]
    print(told("+10 points: promoted, of the tested, 100 rows x 3", tested, lambda one: one.promoted))
    print(told("+10 points: promoted, of all", better, lambda one: one.promoted))
    print(
        told("gains of 0 to 10 points: the 95 % interval holds the truth", [m for m in mixed if m.verdict], covers)
    )
    print(f"{time.process_time() - began_s:.0f} s of processor time")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
