"""
Whether what prompt_tuning and model_backtesting say is true: simulated jobs whose right answer is known.

    make validity        or: .venv/bin/python benchmarks/validity.py [JOBS]

Whole jobs over coins in place of a model (`tuning_bench.py`, `rules_bench.py`, `backtest_bench.py` in `tests/`):
the search, then the one test; the decision about other models. And small whole jobs over a real server (`zoo.py`),
for what a job says it will need. The jobs are the same ones at every run; ends with 1 when an aim is not reached.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import structlog

from backtest_bench import KNOWN, RULE, frontier, job, race, slow_hour_is_covered
from overmind_executors.backtesting import BacktestingExecutor
from overmind_executors.backtesting.decision import decide
from overmind_executors.contract import Context, ModelEndpoint
from overmind_executors.figures import wilson_interval
from overmind_executors.stopping import StopFlag
from overmind_executors.tuning import PromptTuningExecutor
from overmind_executors.tuning.gepa_search import gepa_search
from overmind_executors.tuning.search import best_of_n
from rules_bench import Reached, reached, reached_at_one_go, reached_blindly, reached_by_bare_gepa
from tuning_bench import Simulated, simulate
from zoo import Zoo
from zoo_judges import draw
from zoo_writers import by_question, rows, tuned


@dataclass(frozen=True)
class Line:
    """A line of the table; *is_reached* is None where there is no aim."""

    name: str
    figure: str
    aim: str = ""
    is_reached: bool | None = None


def share(
    name: str, hits: int, of: int, aim: str = "", is_reached: Callable[[float, float, float], bool] | None = None
) -> Line:
    """*hits* of *of*; the aim is asked about the share and the ends of its 95 % interval."""
    low, high = wilson_interval(hits, of)
    figure = f"{hits} of {of}: {hits / of:.1%} ({low:.1%} to {high:.1%})"
    return Line(name, figure, aim, is_reached(hits / of, low, high) if is_reached else None)


# ------------------------------------------------------------------------------------------ prompt_tuning


def covers(one: Simulated) -> bool:
    """Whether the interval of the gain holds the true one."""
    found = one.verdict.comparison if one.verdict else None
    if found is None or found.low is None or found.high is None:
        return False
    return found.low <= one.true_gain <= found.high


def promotions(number: int, folder: Path) -> Iterator[Line]:
    """How often a prompt is promoted, and how true the intervals are."""

    def jobs(search: Any = gepa_search, **how: Any) -> list[Simulated]:
        return [simulate(seed, folder, search, **how) for seed in range(number)]

    def promoted(found: Sequence[Simulated]) -> int:
        return sum(one.promoted for one in found)

    null = jobs()
    yield share("no gain: the search claims one", sum(one.claimed > 0 for one in null), number)
    for name, found in (
        ("40 held-out rows asked 3 times", null),
        ("40 rows asked once", jobs(repeats=1)),
        ("best of n in place of GEPA", jobs(best_of_n)),
    ):
        yield share(
            f"no gain: promoted, {name}",
            promoted(found),
            number,
            "upper end at most 7 %",
            lambda _s, _l, h: h <= 0.07,
        )
    better = jobs(gain=lambda _n: 0.1, rows=(20, 20, 100))
    tested = [one for one in better if one.verdict]
    name = "+10 points: promoted, of those tested on 100 rows asked 3 times"
    yield share(name, promoted(tested), len(tested), "80 %", lambda s, _l, _h: s >= 0.8)
    yield share("+10 points: promoted, of all jobs", promoted(better), number)
    mixed = [one for one in jobs(gain=lambda n: 0.02 * (n % 6), rows=(20, 20, 100)) if one.verdict]
    name = "gains of 0 to 10 points: the 95 % interval holds the true gain"
    yield share(name, sum(map(covers, mixed)), len(mixed), "93 to 97 %", lambda s, _l, _h: 0.93 <= s <= 0.97)


def searches(folder: Path, seeds: int = 20) -> Iterator[Line]:
    """How far searches come with the same number of calls, where the best prompt is known."""
    ours = [reached(seed, folder) for seed in range(seeds)]
    controls = {
        "GEPA by itself": [reached_by_bare_gepa(seed, ours[seed].calls) for seed in range(seeds)],
        "best of n": [reached_at_one_go(seed, folder, ours[seed].calls) for seed in range(seeds)],
        "random rewriting": [reached_blindly(seed, folder, ours[seed].calls) for seed in range(seeds)],
    }
    known, of = median(one.share for one in ours), {name: _median(found) for name, found in controls.items()}
    calls = f"{median(one.calls for one in ours):.0f} calls, median of {seeds} seeds"
    yield Line(f"of the best prompt's worth, {calls}", f"{known:.1%}", "90 %, and more than both controls",
               known >= 0.9 and known > max(of["best of n"], of["random rewriting"]))  # fmt: skip
    for name, reached_share in of.items():
        yield Line(f"the same calls, {name}", f"{reached_share:.1%}")
    whole = [reached(seed, folder, racing=None) for seed in range(seeds)]
    saved = 1 - sum(one.calls for one in ours) / sum(one.calls for one in whole)
    yield Line(f"without the race, {_median(whole):.1%}: calls that it saves", f"{saved:.1%}")


def _median(found: Sequence[Reached]) -> float:
    return median(one.share for one in found)


# ------------------------------------------------------------------------------------------ model_backtesting


def decisions(number: int) -> Iterator[Line]:
    """How often a switch is advised, rightly and wrongly; the frontier; the race."""
    dice = np.random.default_rng(11)
    equal = [decide(job(dice, rows=200, repeats=1, gains=[0.0] * 5), RULE).winner for _ in range(number)]
    name = "5 equal candidates, 200 rows: switched to one"
    yield share(name, sum(one is not None for one in equal), number, "at most 5 %", lambda s, _l, _h: s <= 0.05)
    better = [decide(job(dice, rows=200, repeats=3, gains=[0.1, 0, 0, 0, 0]), RULE).winner for _ in range(number)]
    name = "one of 5 is 10 points better, 200 rows asked 3 times: found"
    yield share(name, better.count("m0"), number, "80 %", lambda s, _l, _h: s >= 0.8)
    hours = [slow_hour_is_covered(dice) for _ in range(number)]
    yield share("a slow hour: the interval of the p95 difference holds 0", sum(hours), number, "93 %",
                lambda s, _l, _h: s >= 0.93)  # fmt: skip
    found = [{point.model for point in frontier(dice).points if point.is_on} == KNOWN for _ in range(100)]
    yield share("the known frontier is found", sum(found), 100, "95 of 100", lambda s, _l, _h: s >= 0.95)
    raced = [race(dice) for _ in range(100)]
    saved = sum(one.saved for one in raced) / sum(one.requests for one in raced)
    lost = sum(one.found for one in raced) - sum(one.found_in_race for one in raced)
    yield Line("a race: requests saved in 100 jobs", f"{saved:.1%}", "30 %", saved >= 0.3)
    yield Line("a race: right winners lost in 100 jobs", str(lost), "at most 1", lost <= 1)


# ------------------------------------------------------------------------------------------ estimates


def estimates(folder: Path, number: int = 100) -> Iterator[Line]:
    """Whether what jobs used lies between the low and the ceiling of what they said before."""
    dice = random.Random(5)  # noqa: S311  # which jobs are made, no secret
    held = dict.fromkeys(("calls", "tokens", "cost_usd"), 0)
    for seed in range(number):
        outcome = (_tuning_job if seed % 2 else _backtest)(folder / str(seed), dice)
        used, expected = outcome["usage"], outcome["estimate"]
        told = {"calls": used["model_calls"], "tokens": used["tokens"], "cost_usd": used["cost_usd"]}
        for name, value in told.items():
            held[name] += expected[name]["low"] <= value <= expected[name]["ceiling"]
    for name, hits in held.items():
        yield share(
            f"whole jobs over a server: {name} as estimated", hits, number, "95 %", lambda s, _l, _h: s >= 0.95
        )


def _context(folder: Path, zoo: Zoo) -> Context:
    output, state = folder / "output", folder / "state"
    output.mkdir(parents=True)
    state.mkdir()
    models = {
        name: ModelEndpoint(name, zoo.url, name, max_concurrency=4, input_price=1.0, output_price=2.0)
        for name in zoo.models
    }
    return Context(
        job_id="job", attempt=1, input_file=None, input_name=None, output=output, state=state, models=models,
        data_roots=(), report=lambda *_: None, stop=StopFlag(), log=structlog.get_logger(),
    )  # fmt: skip


def _tuning_job(folder: Path, dice: random.Random) -> Any:
    worth = dice.choice((0.3, 0.5, 0.7, 0.9))
    writer = by_question(lambda number: f"Style {number % 90}. worth={worth + (number % 10) / 100:.2f}")
    with Zoo({"tuned": tuned, "writer": writer}) as zoo:
        executor = PromptTuningExecutor()
        task = executor.validate({
            "items": rows(dice.choice((24, 40, 60))), "prompt": "Say right or wrong. worth=0.4",
            "target": {"model": "tuned", "temperature": dice.choice((0.0, 0.5)), "max_tokens": 20},
            "analyzer_model": "writer", "analyzer_max_tokens": 300, "num_iterations": dice.choice((1, 3, 6)),
            "candidates_per_iteration": dice.choice((1, 2)), "search": dice.choice(("gepa", "best_of_n")),
        })  # fmt: skip
        return executor.run(task, _context(folder, zoo)).outcome


def _backtest(folder: Path, dice: random.Random) -> Any:
    names = {"old": 0.5, "good": 0.9, "bad": 0.1}

    def knows(name: str) -> Callable[[Any], str]:
        return lambda messages: "fine" if draw(name, messages[-1]["content"]) < names[name] else "poor"

    with Zoo({name: knows(name) for name in names}) as zoo:
        executor = BacktestingExecutor()
        task = executor.validate({
            "items": [{"id": f"r{n}", "input": f"question {n}"} for n in range(dice.choice((12, 30, 60)))],
            "current_model": "old", "models": ["good", "bad"], "prompt": {"max_tokens": 20},
            "evaluators": [{"kind": "contains", "value": "fine"}], "repetitions": dice.choice((1, 2)),
            "racing": dice.choice((None, {"first_rows": 10})),
        })  # fmt: skip
        return executor.run(task, _context(folder, zoo)).outcome


def main(number: int) -> int:
    """Print the table; 1 when an aim is not reached."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    began_s = time.process_time()
    missed = 0
    print("| | measured | aim |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parts = promotions(number, folder), searches(folder), decisions(400), estimates(folder / "estimates")
        for line in (line for part in parts for line in part):
            missed += line.is_reached is False
            word = {True: "", False: ": **not reached**", None: ""}[line.is_reached]
            print(f"| {line.name} | {line.figure} | {line.aim}{word} |", flush=True)
    print(f"\n{time.process_time() - began_s:.0f} s of processor time; {missed} aims not reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
