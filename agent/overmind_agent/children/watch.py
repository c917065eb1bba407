"""What can be seen of a child while it works: that it lives, and what it tells."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from overmind_agent.children.processes import Process
from overmind_agent.jobs import Progress
from overmind_executors import strict_json

# As much as a pipe holds.
EVENT_BYTES: Final = 64 * 1024
# A heartbeat puts what an event holds three levels deeper, and with one level too many all of it would be refused.
MOST_LEVELS: Final = strict_json.MAX_DEPTH - 3
# US dollars or seconds; beyond it somebody jests.
_MOST_OF_A_FIGURE: Final = 1e12


class ChildWatch:
    """
    Waits for news of one child, whatever comes first: an event, or its end.

    Args:
        events: the pipe that the child writes to.
        on_calls: told what the child says of its calls of chat models; untrusted.
    """

    def __init__(
        self,
        child: Process,
        events: IO[bytes],
        on_progress: Callable[[Progress], None],
        on_iteration: Callable[[Mapping[str, Any]], None],
        on_calls: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self._child = child
        self._pipe = events
        self._events = EventReader(events, on_progress, on_iteration, on_calls)
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> ChildWatch:
        self._life = os.pidfd_open(self._child.pid)
        self._selector.register(self._life, selectors.EVENT_READ)
        self._selector.register(self._pipe, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._events.read()
        self._selector.close()
        os.close(self._life)

    def wait(self, timeout_s: float) -> bool:
        """Whether the child has ended, after waiting for news for at most *timeout_s* seconds."""
        has_ended = False
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._life:
                has_ended = True
            elif not self._events.read():
                self._selector.unregister(self._pipe)  # the child closed its end; it will be gone in a moment
        return has_ended


class EventReader:
    """The child's events: JSON lines on a pipe. What is not one of ours is ignored, and so is a line too long."""

    def __init__(
        self,
        pipe: IO[bytes],
        on_progress: Callable[[Progress], None],
        on_iteration: Callable[[Mapping[str, Any]], None],
        on_calls: Callable[[Mapping[str, Any]], object] = lambda _told: None,
    ) -> None:
        self._pipe = pipe
        self._on_progress = on_progress
        self._on_iteration = on_iteration
        self._on_calls = on_calls
        self._rest = b""
        os.set_blocking(pipe.fileno(), False)

    def read(self) -> bool:
        """Take what is there now; False when nothing will come any more."""
        chunk = self._pipe.read(EVENT_BYTES)
        if not chunk:
            return chunk is None  # nothing now
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest[-EVENT_BYTES:]
        for line in lines:
            self._take(line)
        return True

    def _take(self, line: bytes) -> None:
        try:
            event = strict_json.loads(line, levels=MOST_LEVELS)
            if event["event"] == "progress":
                step, total = event["step"], event["total_steps"]
                # Goes into the heartbeat of all jobs, which a number that is none would have refused.
                if type(step) is type(total) is int and step >= 0 and total >= 0:
                    said = str(event["step_name"])[:255]
                    self._on_progress(Progress(step, total, said, _figure(event, "usd"), _figure(event, "eta_s")))
            elif event["event"] == "iteration" and isinstance(event["fields"], dict):
                self._on_iteration(event["fields"])
            elif event["event"] in ("calls", "call"):
                self._on_calls(event)
        except (strict_json.NotJson, KeyError, TypeError):
            return


def _figure(event: Mapping[str, Any], name: str) -> float | None:
    """A number that is none says nothing, and the rest of the event is told all the same."""
    told = event.get(name)
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if 0 <= told <= _MOST_OF_A_FIGURE else None
