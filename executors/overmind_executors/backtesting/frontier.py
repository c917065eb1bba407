"""The models that no other one beats in everything: quality, money, latency; and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from overmind_executors.backtesting.evidence import Evidence, Flags, Floats, Places
from overmind_executors.backtesting.pairs import draws, slowest
from overmind_executors.statistics.ties import TIE

COST: Final = "cost_usd"
P95: Final = "p95_ms"


@dataclass(frozen=True)
class Point:
    """
    One model.

    Attributes:
        cost_usd: for a request, None when its price is unknown.
        p95_ms: None when latencies cannot be compared.
        is_on: whether no other model is at least as good in every respect and better in one.
        membership: the share of samples of the rows in which that holds.
    """

    model: str
    quality: float
    cost_usd: float | None
    p95_ms: float | None
    is_on: bool
    membership: float


@dataclass(frozen=True)
class Frontier:
    """
    Attributes:
        respects: what was compared. Money is left out when one model's price is unknown, latency when the
            incumbent's is of another hour.
        points: models with answers and scores; one that was not asked about all rows is not among them.
        rows: that all of them have in common.
    """

    respects: tuple[str, ...]
    points: tuple[Point, ...]
    rows: int


def frontier_of(evidence: Evidence, *, without: frozenset[str] = frozenset()) -> Frontier:
    """The frontier of all models but *without*."""
    names = [n for n, side in evidence.sides.items() if n not in without and bool(np.isfinite(side.quality).any())]
    is_priced = bool(names) and all(evidence.sides[name].is_priced for name in names)
    is_timed = not evidence.is_recorded  # latencies of two hours say nothing of each other
    respects = ("quality", *([COST] if is_priced else []), *([P95] if is_timed else []))
    rows = _shared(evidence, names, respects)
    if not names or len(rows) < 2:
        return Frontier(respects, (), len(rows))
    whole = np.arange(len(rows))[None, :]
    now = _figures(evidence, names, rows, whole, respects)
    on = undominated(now)[0]
    share = undominated(_figures(evidence, names, rows, draws(len(rows)), respects)).mean(axis=0)
    points = []
    for place, name in enumerate(names):
        seen = dict(zip(respects, now[0, place].tolist(), strict=True))
        cost = seen.get(COST, _own_cost(evidence, name, rows))
        points.append(Point(name, -seen["quality"], cost, seen.get(P95), bool(on[place]), float(share[place])))
    return Frontier(respects, tuple(points), len(rows))


def undominated(figures: Floats) -> Flags:
    """
    Which models no other one beats.

    Args:
        figures: shape (n_draws, n_models, n_respects), less is better.

    Returns:
        Shape (n_draws, n_models).
    """
    mine, other = figures[:, :, None, :], figures[:, None, :, :]
    is_beaten = np.all(other <= mine + TIE, axis=3) & np.any(other < mine - TIE, axis=3)
    return np.asarray(~np.any(is_beaten, axis=2))


def _shared(evidence: Evidence, names: Sequence[str], respects: Sequence[str]) -> Places:
    known = np.ones(evidence.rows, dtype=bool)
    for name in names:
        side = evidence.sides[name]
        values = {"quality": side.quality, COST: side.cost_usd, P95: side.latency_ms}
        for respect in respects:
            known &= ~np.isnan(values[respect]).any(axis=1)
    return np.flatnonzero(known)


def _figures(
    evidence: Evidence, names: Sequence[str], rows: Places, drawn: Places, respects: Sequence[str]
) -> Floats:
    of_models = []
    for name in names:
        side = evidence.sides[name]
        figures = [-side.quality[rows].mean(axis=1)[drawn].mean(axis=1)]
        if COST in respects:
            figures.append(side.cost_usd[rows].mean(axis=1)[drawn].mean(axis=1))
        if P95 in respects:
            figures.append(slowest(side.latency_ms[rows], drawn))
        of_models.append(np.stack(figures, axis=1))
    return np.stack(of_models, axis=1)


def _own_cost(evidence: Evidence, name: str, rows: Places) -> float | None:
    side = evidence.sides[name]
    return float(side.cost_usd[rows].mean()) if side.is_priced else None
