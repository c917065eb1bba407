"""
Backtests without models, for hundreds of decisions: what each candidate is worth is known exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from overmind_executors.backtesting.decision import decide
from overmind_executors.backtesting.evidence import Evidence, Side
from overmind_executors.backtesting.frontier import Frontier, frontier_of
from overmind_executors.backtesting.pairs import latency_change
from overmind_executors.backtesting.parameters import Racing
from overmind_executors.backtesting.racing import hopeless, looks
from overmind_executors.backtesting.rule import Rule

RULE = Rule()


def side(
    quality: Any, *, latency_ms: Any = 100.0, cost_usd: Any = 0.001, answered: Any = True, gate_failed: Any = False
) -> Side:
    """One model; what is one value holds for all rows."""
    scores = np.asarray(quality, dtype=float)
    scores = scores.reshape(len(scores), -1)

    def spread(value: Any) -> Any:
        given = np.asarray(value)
        return np.broadcast_to(given.reshape(len(given), -1) if given.ndim else given, scores.shape)

    is_answered = spread(answered).astype(bool)
    return Side(
        scores,
        np.where(is_answered, spread(latency_ms).astype(float), np.nan),
        np.where(is_answered, spread(cost_usd).astype(float), np.nan),
        np.ones(scores.shape, dtype=bool),
        is_answered,
        spread(gate_failed).astype(bool),
    )


def job(draw: np.random.Generator, *, rows: int, repeats: int, gains: Sequence[float]) -> Evidence:
    """Rows of different difficulty; candidate i passes each with gains[i] more; latency and tokens vary."""
    chances = draw.beta(3, 2, size=rows)
    names = ["old", *(f"m{number}" for number in range(len(gains)))]
    sides = {}
    for name, gain in zip(names, [0.0, *gains], strict=True):
        passes = draw.random((rows, repeats)) < np.clip(chances + gain, 0, 1)[:, None]
        latency_ms = draw.lognormal(6, 0.5, size=(rows, repeats))
        cost_usd = draw.lognormal(-7, 0.3, size=(rows, repeats))
        sides[name] = side(passes, latency_ms=latency_ms, cost_usd=cost_usd)
    return Evidence("old", sides)


@dataclass(frozen=True)
class Raced:
    """A job asked in whole, and the same one with a race: whether the better model won, and the requests saved."""

    found: bool
    found_in_race: bool
    saved: int
    requests: int


def race(draw: np.random.Generator, *, rows: int = 160) -> Raced:
    """One candidate is better by 20 points, one is equal, four are far worse."""
    whole = job(draw, rows=rows, repeats=1, gains=[0.2, -0.3, -0.3, -0.4, -0.4, 0.0])
    out = _raced(whole, Racing())
    sides = {name: _until(one, out.get(name, whole.rows)) for name, one in whole.sides.items()}
    return Raced(
        decide(whole, RULE).winner == "m0",
        decide(Evidence("old", sides), RULE, out=frozenset(out)).winner == "m0",
        sum(whole.rows - at for at in out.values()),
        whole.rows * len(whole.sides),
    )


def slow_hour_is_covered(draw: np.random.Generator) -> bool:
    """Two equal models, asked row by row with an hour ten times slower: whether the interval holds nought."""
    hour = np.where((np.arange(200) >= 80) & (np.arange(200) < 120), 10.0, 1.0)[:, None]
    old, new = (side([1.0] * 200, latency_ms=draw.lognormal(5, 0.3, (200, 1)) * hour) for _ in range(2))
    change = latency_change(Evidence("old", {"old": old, "new": new}), "new", level=0.95)
    assert change is not None
    return change.low <= 0 <= change.high


KNOWN = {"dear", "cheap", "fast"}
"""What is on the frontier of `frontier`."""


def frontier(draw: np.random.Generator) -> Frontier:
    """`dear` is best, `cheap` cheapest, `fast` fastest; `old` and `beaten` are nothing of it."""
    known = {"old": (0.4, 3.3, 400.0), "dear": (0.9, 3.0, 300.0), "cheap": (0.7, 0.3, 300.0)}
    known |= {"fast": (0.6, 1.0, 50.0), "beaten": (0.5, 3.3, 400.0)}
    sides = {
        name: side(
            draw.random((150, 1)) < quality,
            cost_usd=draw.lognormal(0, 0.1, (150, 1)) * cost,
            latency_ms=draw.lognormal(0, 0.1, (150, 1)) * latency,
        )
        for name, (quality, cost, latency) in known.items()
    }
    return frontier_of(Evidence("old", sides))


def _until(one: Side, rows: int) -> Side:
    """*one*, asked about the first *rows* rows alone."""
    is_asked = np.arange(len(one.quality))[:, None] < rows
    numbers = (np.where(is_asked, values, np.nan) for values in (one.quality, one.latency_ms, one.cost_usd))
    return Side(*numbers, one.asked & is_asked, one.answered & is_asked, one.gate_failed & is_asked)


def _raced(whole: Evidence, racing: Racing) -> Mapping[str, int]:
    """After how many rows each loser goes out."""
    out: dict[str, int] = {}
    for at in looks(whole.rows, racing)[:-1]:
        running = [name for name in whole.candidates if name not in out]
        seen = Evidence("old", {name: one.first(at) for name, one in whole.sides.items()})
        out |= dict.fromkeys(hopeless(seen, running, RULE, racing), at)
    return out
