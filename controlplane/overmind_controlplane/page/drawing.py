"""Where the marks of a chart stand. Templates write the SVG, so that every text in it is escaped as any other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from overmind_controlplane.page.values import Step

WIDTH: Final = 640
HEIGHT: Final = 220
LEFT: Final = 64
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 26
_NAME_CHARS: Final = 24


@dataclass(frozen=True)
class Mark:
    """A point of the chart, in its own units, and what it stands for."""

    x: float
    y: float
    step: Step


@dataclass(frozen=True)
class Course:
    """
    The course of a search.

    Attributes:
        marks: the steps that have a score.
        best: `x,y x,y …` of a line that never falls: the best kept score so far.
        ticks: heights and the scores that they stand for, round ones.
        first, last: the names of the steps at both ends.
        radius: of the marks: hundreds of them hide each other.
    """

    marks: Sequence[Mark]
    best: str
    ticks: Sequence[tuple[float, float]]
    first: str
    last: str
    radius: float


def course(steps: Sequence[Step]) -> Course | None:
    """The chart of *steps*; None when fewer than two of them have a score."""
    steps = [step for step in steps if not step.is_test]
    scored = [(place, step, step.score) for place, step in enumerate(steps) if step.score is not None]
    if len(scored) < 2:
        return None
    scores = [score for _, _, score in scored]
    low, high = min(scores), max(scores)
    ticks_at = _round_about(low, high) if high > low else [low]
    room = 0.0 if high > low else 1.0
    low, high = min(ticks_at) - room, max(ticks_at) + room
    last = max(1, len(steps) - 1)

    def x(place: int) -> float:
        return round(LEFT + (WIDTH - LEFT - _RIGHT) * place / last, 1)

    def y(score: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - score) / (high - low), 1)

    line: list[str] = []
    best: float | None = None
    for place, step, score in scored:
        if step.is_kept and (best is None or score > best):
            line += [f"{x(place)},{y(best)}"] if best is not None else []
            best = score
        if best is not None:
            line.append(f"{x(place)},{y(best)}")
    marks = [Mark(x(place), y(score), step) for place, step, score in scored]
    ticks = [(y(score), score) for score in ticks_at]
    return Course(marks, " ".join(line), ticks, _short(steps[0].name), _short(steps[-1].name), _radius(marks))


def _round_about(low: float, high: float) -> list[float]:
    """Round numbers at equal distances, three to seven of them, from at most *low* to at least *high*."""
    size = 10 ** math.floor(math.log10(high - low))
    steps = (5 * size, 2 * size, size, size / 2, size / 5)
    step = next(step for step in steps if math.ceil(high / step) - math.floor(low / step) >= 3)
    digits = 2 - math.floor(math.log10(step))
    found = [round(place * step, digits) for place in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return found if found[0] < found[-1] else [low, high]


def _radius(marks: Sequence[Mark]) -> float:
    return 5 if len(marks) <= 40 else 3.5 if len(marks) <= 120 else 2


def _short(name: str) -> str:
    """The end of a name tells it from the others."""
    return name if len(name) <= _NAME_CHARS else f"…{name[1 - _NAME_CHARS :]}"


@dataclass(frozen=True)
class Bar:
    """A bar of a distribution, as a share of the longest one."""

    name: str
    count: int
    share: float


def bars(told: Any) -> list[Bar]:
    """The bars of a `{name: count}`; none when it is something else."""
    if not isinstance(told, Mapping):
        return []
    counts = {str(name): count for name, count in list(told.items())[:40] if _is_count(count)}
    most = max(counts.values(), default=0)
    return [Bar(name, count, round(count / most, 4) if most else 0.0) for name, count in counts.items()]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
