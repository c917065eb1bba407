"""
Counts what jobs say of their calls of chat models. That is untrusted: a model that this host does not have is
`other`, and what is no amount is nothing.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from overmind_agent.telemetry.labels import OTHER
from overmind_agent.telemetry.meters import Meters

# So many processes and models of theirs are remembered; their totals only grow.
MOST_REMEMBERED: Final = 1000
# No job has more of anything; a figure beyond that is a lie.
MOST: Final = 1e12

_AMOUNTS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "prompt_tokens": ("model_tokens", {"direction": "read"}),
    "completion_tokens": ("model_tokens", {"direction": "written"}),
    "cost_usd": ("model_cost_usd", {}),
    "seconds": ("model_call_seconds", {}),
}
_TALLIES: Final = {"kinds": ("model_calls", "kind"), "refused": ("model_calls_refused", "reason")}


class CallCounter:
    """
    Hears the totals of all jobs, and counts by how much they have grown. Safe to use from any thread.

    Args:
        models: the names of this host's, as they are now.
    """

    def __init__(self, meters: Meters, models: Callable[[], Collection[str]]) -> None:
        self._meters = meters
        self._models = models
        self._totals: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def hear(self, job_id: str, told: Mapping[str, Any]) -> None:
        """Count what *told*, a line of totals of one model, has more than the one before."""
        model = str(told.get("model"))
        named = {"model": model if model in self._models() else OTHER}
        whose = (job_id, str(told.get("life"))[:20], model[:64])
        for key, (metric, labels) in _AMOUNTS.items():
            self._grow((*whose, key), told.get(key), metric, {**named, **labels})
        for key, (metric, label) in _TALLIES.items():
            tally = told.get(key)
            if isinstance(tally, dict):
                for word, total in list(tally.items())[:MOST_REMEMBERED]:
                    self._grow((*whose, key, word), total, metric, {**named, label: word})

    def _grow(self, key: tuple[object, ...], total: object, metric: str, labels: Mapping[str, object]) -> None:
        if isinstance(total, bool) or not isinstance(total, (int, float)) or not 0 <= total <= MOST:
            return
        with self._lock:
            more = total - self._totals.get(key, 0.0)
            if more <= 0 or math.isnan(more):
                return
            self._totals[key] = total
            self._totals.move_to_end(key)
            if len(self._totals) > MOST_REMEMBERED:
                self._totals.popitem(last=False)
        self._meters.count(metric, labels, amount=more)
