"""
A provider that takes calls and answers none: noticed while all who ask it wait, and then given up.

Only a whole answer breaks the silence: a server that sends heads, or a byte now and then, has answered nothing, and
one that lists its models may hang in all else. Time in which nobody asks is none of it. Slow and dead look the same
from here, so that how long silence may last is for the host to say.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Silence:
    """
    Watches the calls to one provider, with a thread that runs only while there are calls.

    Args:
        first_s: seconds without a whole answer that are borne, from the first call on.
        later_s: the same once it has answered something: a long answer is then likelier than a death.
        on_silent: called once, on that thread, when it lasts longer.
    """

    def __init__(self, *, first_s: float, later_s: float, on_silent: Callable[[], object]) -> None:
        self._patience_s, self._later_s = first_s, max(first_s, later_s)
        self._on_silent = on_silent
        self._changed = threading.Condition()
        self._since_s = self._paused_at_s = math.inf
        self._in_flight = 0
        self._is_watched = self._is_closed = False
        self._lasted_s: float | None = None

    @property
    def lasted_s(self) -> float | None:
        """For how long it had been silent when it was given up; None for one that is not."""
        return self._lasted_s

    @contextmanager
    def call(self) -> Iterator[None]:
        """Round each call."""
        with self._changed:
            now_s = time.monotonic()
            if self._in_flight == 0 and self._since_s < math.inf:
                self._since_s += now_s - self._paused_at_s  # nobody asked meanwhile
            self._in_flight += 1
            self._since_s = min(self._since_s, now_s)
            if not self._is_watched and self._lasted_s is None:
                with suppress(RuntimeError):  # no more threads; the next call tries again
                    threading.Thread(target=self._watch, name="silence", daemon=True).start()
                    self._is_watched = True
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._paused_at_s = time.monotonic()

    def broken(self) -> None:
        """A whole answer came, whatever it says."""
        with self._changed:
            self._patience_s = self._later_s
            self._since_s = time.monotonic() if self._in_flight > 1 else math.inf

    def close(self) -> None:
        """Watch no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._in_flight and not self._is_closed and self._lasted_s is None:
                silent_s = time.monotonic() - self._since_s
                if silent_s >= self._patience_s:
                    self._lasted_s = silent_s
                else:
                    self._changed.wait(min(self._patience_s - silent_s, self._patience_s))
            self._is_watched = False
        if self._lasted_s is not None:
            self._on_silent()
