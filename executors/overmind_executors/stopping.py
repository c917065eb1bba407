"""The wish to stop, as it reaches a child process: SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable


class StopFlag:
    """Fills the port `Stop`."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Make it known that the work is to end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the work is to end."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep for at most *timeout_s* seconds, less when the wish comes; returns `is_set()`."""
        return self._event.wait(timeout_s)


def on_signal(tell: Callable[[], None]) -> None:
    """
    Call *tell* on a thread of its own whenever SIGTERM or SIGINT comes. Called once, from the main thread.

    A Python signal handler runs between two instructions of the main thread, where that thread may hold the very
    lock that `threading.Event.set` needs. So the handler does nothing, and a thread reads the wake-up pipe.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader, tell), name="signals", daemon=True).start()


def _listen(reader: socket.socket, tell: Callable[[], None]) -> None:
    while reader.recv(1):
        tell()
