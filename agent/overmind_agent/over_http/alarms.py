"""One thread for the ends of all exchanges: a timer for each would begin and end a thread with every call."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Alarms:
    """Safe to use from any thread. The thread that rings begins with the first alarm, and stays."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._set: dict[object, tuple[float, Callable[[], object]]] = {}
        self._changed = threading.Condition()
        self._wakes_at_s = -math.inf
        self._has_begun = False

    @contextmanager
    def after(self, seconds: float, ring: Callable[[], object]) -> Iterator[None]:
        """
        Call *ring* in that thread in *seconds* seconds, unless the block has ended by then.

        Args:
            ring: quick, raises nothing. It is not under way any more when the block has ended.
        """
        alarm = object()
        at_s = time.monotonic() + seconds
        with self._changed:
            self._set[alarm] = (at_s, ring)
            if not self._has_begun:
                self._begin()
            elif at_s < self._wakes_at_s:  # most are later than one that was set before
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._set.pop(alarm, None)

    def _begin(self) -> None:
        """On a host that has no thread left this is tried again with the next alarm, for all that are set."""
        with suppress(RuntimeError):
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self._has_begun = True

    def _run(self) -> None:
        with self._changed:
            while True:
                self._ring_those_due(time.monotonic())
                self._wakes_at_s = min((at_s for at_s, _ in self._set.values()), default=math.inf)
                left_s = self._wakes_at_s - time.monotonic()
                self._changed.wait(None if math.isinf(left_s) else max(0.0, left_s))

    def _ring_those_due(self, now_s: float) -> None:
        for alarm, (at_s, ring) in list(self._set.items()):
            if at_s <= now_s:
                del self._set[alarm]
                ring()
