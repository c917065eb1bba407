"""What people have said of outputs, read from rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from overmind_executors.judge_scoring.parameters import Labels
from overmind_executors.scoring.texts import folded

_GOOD: Final = frozenset({"pass", "passed", "yes", "true", "correct", "right", "good", "1"})
_BAD: Final = frozenset({"fail", "failed", "no", "false", "incorrect", "wrong", "bad", "0"})


@dataclass(frozen=True)
class Label:
    """
    Attributes:
        values: what each person says, in [0, 1], None where one says nothing or nothing that can be read.
        passes: what most of them say; None on a tie, or when nobody says anything.
    """

    values: tuple[float | None, ...]
    passes: bool | None


def label_of(source: Mapping[str, Any], labels: Labels) -> Label:
    """What the row *source* says of itself."""
    values = tuple(_value(source.get(name)) for name in labels.fields)
    votes = [value >= labels.pass_threshold for value in values if value is not None]
    ayes = sum(votes)
    passes = None if 2 * ayes == len(votes) else 2 * ayes > len(votes)
    return Label(values, passes)


def _value(said: Any) -> float | None:
    if isinstance(said, bool):
        return float(said)
    if isinstance(said, int | float):
        return float(said) if math.isfinite(said) and 0 <= said <= 1 else None
    if isinstance(said, str):
        word = folded(said)
        return 1.0 if word in _GOOD else 0.0 if word in _BAD else None
    return None


def is_for_learning(item_id: str) -> bool:
    """Whether the label of *item_id* is in the half that thresholds are learnt from, not in the one reported on."""
    return hashlib.sha256(f"label\n{item_id}".encode()).digest()[0] % 2 == 0
