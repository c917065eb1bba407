"""What was observed, as arrays: the one thing that all figures and the decision are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Side:
    """
    One model over all rows; every array has the shape (n_rows, n_repetitions), rows in the order of asking.

    Attributes:
        quality: in [0, 1], NaN where there is no score: that is not a score of 0.
        latency_ms: NaN without an answer.
        cost_usd: NaN where it is not known: that is not 0 either.
        asked, answered: whether the model was asked, and gave an output.
        gate_failed: whether the output failed a gate.
    """

    quality: Floats
    latency_ms: Floats
    cost_usd: Floats
    asked: Flags
    answered: Flags
    gate_failed: Flags

    @property
    def success_rate(self) -> float | None:
        """Answers for each request; None when nothing was asked."""
        asked = int(self.asked.sum())
        return float((self.answered & self.asked).sum()) / asked if asked else None

    @property
    def is_priced(self) -> bool:
        """Whether the cost of every answer is known, and there is one."""
        return bool(self.answered.any()) and not bool(np.isnan(self.cost_usd[self.answered]).any())

    def first(self, rows: int) -> Side:
        """The same over the first *rows* rows."""
        return Side(
            self.quality[:rows],
            self.latency_ms[:rows],
            self.cost_usd[:rows],
            self.asked[:rows],
            self.answered[:rows],
            self.gate_failed[:rows],
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """
    Attributes:
        incumbent: the model in use.
        sides: every model by its name, the incumbent among them.
        ids: of the rows.
        clusters: what each row belongs to, None when rows are independent.
        segments: places of rows, by `field=value`.
        is_recorded: whether the incumbent was not asked beside the others: its latency is that of another hour.
    """

    incumbent: str
    sides: Mapping[str, Side]
    ids: Sequence[str] = ()
    clusters: Sequence[str] | None = None
    segments: Mapping[str, Places] = field(default_factory=dict)
    is_recorded: bool = False

    @property
    def candidates(self) -> tuple[str, ...]:
        """All but the incumbent."""
        return tuple(name for name in self.sides if name != self.incumbent)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.sides[self.incumbent].quality)


def evidence_of(
    lines: Iterable[Mapping[str, Any]],
    *,
    models: Sequence[str],
    incumbent: str,
    repetitions: int,
    is_recorded: bool = False,
) -> Evidence:
    """
    *lines* of `rows.jsonl` as arrays.

    Args:
        models: all of them, the incumbent too.
    """
    cells: dict[str, list[list[Mapping[str, Any] | None]]] = {name: [] for name in models}
    place: dict[str, int] = {}
    clusters: list[str] = []
    segments: dict[str, list[int]] = {}
    has_clusters = False
    for line in lines:
        row = place.setdefault(line["item_id"], len(place))
        if row == len(clusters):
            has_clusters = has_clusters or line["cluster"] is not None
            clusters.append(f"of {line['cluster']}" if line["cluster"] is not None else f"row {row}")
            for name in models:
                cells[name].append([None] * repetitions)
            for segment in line["segments"]:
                segments.setdefault(segment, []).append(row)
        for name, cell in line["models"].items():
            cells[name][row][line["repetition"]] = cell
    return Evidence(
        incumbent,
        {name: _side(cells[name], repetitions) for name in models},
        tuple(place),
        tuple(clusters) if has_clusters else None,
        {name: np.array(rows, dtype=np.intp) for name, rows in sorted(segments.items())},
        is_recorded,
    )


def _side(rows: Sequence[Sequence[Mapping[str, Any] | None]], repetitions: int) -> Side:
    shape = (len(rows), repetitions)

    def numbers(key: str) -> Floats:
        found = [[np.nan if cell is None or cell[key] is None else cell[key] for cell in row] for row in rows]
        return np.array(found, dtype=np.float64).reshape(shape)

    def flags(key: str) -> Flags:
        return np.array([[bool(cell and cell[key]) for cell in row] for row in rows], dtype=bool).reshape(shape)

    return Side(
        numbers("quality"),
        numbers("latency_ms"),
        numbers("cost_usd"),
        flags("asked"),
        flags("answered"),
        flags("gate_failed"),
    )
