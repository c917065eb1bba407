"""
Values of labels, clamped: a job type, a reason or a model's name comes from outside, and each value of a label is a
time series that somebody has to keep.
"""

from __future__ import annotations

import re
import threading
from typing import Final

OTHER: Final = "other"
# More different values of one label than that are told together.
MOST_VALUES: Final = 50
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:@/-]{0,63}")


class Clamp:
    """Lets so many plain values of each label through; all others are `other`. Safe to use from any thread."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._known: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, label: str, value: object) -> str:
        """What to call *value* of *label*; `none` for None."""
        if value is None:
            return "none"
        text = str(value)
        if not _PLAIN.fullmatch(text):
            return OTHER
        with self._lock:
            known = self._known.setdefault(label, set())
            if text not in known:
                if len(known) >= self._most:
                    return OTHER
                known.add(text)
        return text
