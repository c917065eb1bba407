"""Judges beside the models that they judge: what they give to outputs of their own family, and to others."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from statistics import fmean, variance
from typing import Any, Final

_Z: Final = 1.959964


class Kinship:
    """The values that each judge gave, eight bytes each."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[array[float], array[float]]] = {}
        self.rows = 0

    def add(self, judge: Mapping[str, Any] | None) -> None:
        """Count the opinions in one line's `judge`."""
        is_kin = False
        for opinion in judge["opinions"] if judge else ():
            kin = opinion["same_family"]
            is_kin = is_kin or kin is True
            if kin is None or opinion["value"] is None:
                continue
            others, own = self._values.setdefault(opinion["judge"], (array("d"), array("d")))
            (own if kin else others).append(opinion["value"])
        self.rows += is_kin

    def facts(self) -> dict[str, Any] | None:
        """For each judge that has seen outputs of its own family; None when none has."""
        judges = {name: _facts(own, others) for name, (others, own) in self._values.items() if own}
        return {"rows": self.rows, "judges": judges} if self.rows else None


def _facts(own: array[float], others: array[float]) -> dict[str, Any]:
    difference = interval = None
    if own and others:
        difference = fmean(own) - fmean(others)
    if difference is not None and min(len(own), len(others)) > 1:
        half = _Z * math.sqrt(variance(own) / len(own) + variance(others) / len(others))
        interval = [round(difference - half, 6), round(difference + half, 6)]
    return {
        "own_family": {"outputs": len(own), "mean": round(fmean(own), 6)},
        "others": {"outputs": len(others), "mean": round(fmean(others), 6) if others else None},
        "difference": None if difference is None else round(difference, 6),
        "interval_95": interval,
        # Not more than that: the family's outputs may be the better ones.
        "prefers_its_own": interval is not None and interval[0] > 0,
    }
