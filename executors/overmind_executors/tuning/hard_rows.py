"""
Which rows a candidate is written from: every second one is among those that went wrong so far.

GEPA writes nothing from rows that all went well, and of a prompt that is right in nine of ten a handful that is
drawn at random mostly did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from overmind_executors.statistics.ties import TIE


class HardRows:
    """
    Fills GEPA's port `BatchSampler`; a row is a place in the list of those to learn from.

    Args:
        values: of each row, in 0 to 1, with the prompt as it was; None for no score.
        size: rows for each candidate.
        others: another one, for the rest of the rows.
    """

    def __init__(self, values: Sequence[float | None], size: int, others: Any) -> None:
        self._values = {place: [] if value is None else [value] for place, value in enumerate(values)}
        self._size = size
        self._shown: Counter[int] = Counter()
        self._others = others

    def add(self, values: Mapping[int, float | None]) -> None:
        """What some candidate was worth on these rows."""
        for place, value in values.items():
            if value is not None:
                self._values[place].append(value)

    def next_minibatch_ids(self, loader: Any, state: Any) -> list[int]:
        """See BatchSampler."""
        means = {place: fmean(values) for place, values in self._values.items() if values}
        hard = [place for place, mean in means.items() if mean < 1 - TIE]
        chosen = sorted(hard, key=lambda place: (self._shown[place], means[place], place))[: (self._size + 1) // 2]
        drawn = self._others.next_minibatch_ids(loader, state)
        chosen += [place for place in dict.fromkeys(drawn) if place not in chosen][: self._size - len(chosen)]
        self._shown.update(chosen)
        return chosen
