"""Signals as values: a handler only writes a byte, and the main thread reads it when it is ready to."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Final

ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD: Final = signal.SIGHUP
DUMP: Final = signal.SIGUSR1


class Signals:
    """The signals of this process from now on. To be made in the main thread."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*ENDING, RELOAD, DUMP):
            signal.signal(number, _heard)

    def wait(self, timeout_s: float) -> Sequence[int]:
        """The numbers of the signals that came, after waiting for one for at most *timeout_s* seconds."""
        if not select.select([self._reader], [], [], timeout_s)[0]:
            return ()
        return tuple(number for number in os.read(self._reader, 64) if number)

    def wake(self) -> None:
        """End a wait that is under way. For other threads."""
        os.write(self._writer, b"\0")


def _heard(_number: int, _frame: FrameType | None) -> None:
    """The byte is written by the interpreter (`set_wakeup_fd`); there is nothing else to do in a handler."""
