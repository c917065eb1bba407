"""
How often a prompt is promoted, over whole jobs with coins in place of a model: a share of `make validity`.

The jobs are the same ones at every run, so these numbers do not flicker; the limits are those of the design.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from scipy.stats import binom

from overmind_executors.rows.rows import Row
from overmind_executors.tuning.gepa_search import gepa_search
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.promotion import Decision
from overmind_executors.tuning.search import Ground, Plan, Search, best_of_n
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.trials import NoMoreCalls
from rules_bench import RACING, Reached, reached, reached_at_one_go, reached_blindly
from tuning_bench import SEED_TEXT, CoinBench, NumberedWriter, simulate

JOBS = 40


@pytest.mark.parametrize("search", [gepa_search, best_of_n])
def test_where_nothing_can_be_gained_hardly_anything_is_promoted(search: Search, tmp_path: Path) -> None:
    """The search by itself claims a gain in many jobs, and there is none; the test errs as often as it may."""
    found = [simulate(seed, tmp_path, search) for seed in range(JOBS)]

    assert sum(one.claimed > 0 for one in found) > JOBS / 3
    assert sum(one.promoted for one in found) <= binom.ppf(0.99, JOBS, 0.05)
    ends = [one.verdict.decision for one in found if one.verdict and not one.promoted]
    assert ends.count(Decision.INCONCLUSIVE) >= 0.8 * len(ends)


def test_a_gain_of_ten_points_is_found_on_a_hundred_rows_asked_three_times(tmp_path: Path) -> None:
    found = [simulate(seed, tmp_path, gepa_search, gain=lambda _n: 0.1, rows=(20, 20, 100)) for seed in range(40)]

    tested = [one for one in found if one.verdict]
    assert sum(one.promoted for one in tested) >= 0.8 * len(tested)


def test_the_interval_of_a_gain_holds_the_true_one(tmp_path: Path) -> None:
    found = [
        simulate(seed, tmp_path, best_of_n, gain=lambda n: 0.02 * (n % 6), rows=(4, 20, 60)) for seed in range(JOBS)
    ]

    intervals = [(one.verdict.comparison, one.true_gain) for one in found if one.verdict]
    held = sum(c is not None and (c.low or 0) <= gain <= (c.high or 0) for c, gain in intervals)
    assert held >= 0.9 * len(intervals)


@pytest.mark.parametrize("control", [reached_at_one_go, reached_blindly])
def test_a_search_that_builds_on_what_it_found_comes_further_than_a_control(
    control: Callable[[int, Path, int], Reached], tmp_path: Path
) -> None:
    """Where the best prompt is known: nine tenths of its worth in the mean, and more than a control gets for it."""
    ours = [reached(seed, tmp_path) for seed in range(5)]
    theirs = [control(seed, tmp_path, ours[seed].calls) for seed in range(5)]

    known, controlled = (fmean(one.share for one in found) for found in (ours, theirs))
    assert known >= 0.9
    assert known > controlled + 0.2


def test_a_race_saves_calls_and_leads_as_far(tmp_path: Path) -> None:
    raced, whole = ([reached(seed, tmp_path, racing=racing) for seed in range(6)] for racing in (RACING, None))

    assert sum(one.calls for one in raced) < 0.97 * sum(one.calls for one in whole)
    assert sum(one.share for one in raced) >= sum(one.share for one in whole) - 0.1


@pytest.mark.parametrize("search", [gepa_search, best_of_n])
def test_the_same_seed_searches_the_same_way(search: Search, tmp_path: Path) -> None:
    one, again = (simulate(3, tmp_path, search, gain=lambda n: 0.03 * n) for _ in range(2))

    assert one == again


@pytest.mark.parametrize("cut", range(3, 9))
def test_a_candidate_that_was_cut_short_is_no_loser(cut: int, tmp_path: Path) -> None:
    """When the money ends between writing a candidate and trying it, nothing is said of it."""
    cases = [Case(Row(n, n, f"r{n}", {}, f"r{n}", "x"), f"r{n}") for n in range(12)]
    bench = CoinBench(cut, {f"r{n}": 0.5 for n in range(12)})
    ledger = Ledger(lambda _candidate: None)
    asked = itertools.count()
    with StepLog(tmp_path / "log") as log:
        ground = Ground(
            original=SEED_TEXT,
            train=cases[:6],
            validation=cases[6:],
            bench=bench,
            proposer=NumberedWriter(lambda _n: 0.0),
            ledger=ledger,
            log=log,
            plan=Plan(9, 2, 3, ("prompt",), cut),
            is_short=lambda _trials: next(asked) >= cut,
        )
        ledger.baseline(SEED_TEXT, ground.trials([(SEED_TEXT, cases[6:])])[0])

        with pytest.raises(NoMoreCalls):
            gepa_search(ground)

    tried = {text for text, _, _ in bench.done}
    assert {one.texts["prompt"] for one in ledger.candidates} <= tried
