"""What a child process tells its parent while it works: one JSON object a line on a pipe."""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.tally import CallTally

PROGRESS_EVERY_S: Final = 0.2
# A write of at most PIPE_BUF bytes to a pipe is all or nothing, so lines of two threads never mix.
_MAX_STEP_NAME: Final = 100
_MAX_STEP: Final = 2**53
# As much as the parent takes for one line; of a longer step of a search the text is left out.
_MAX_LINE_BYTES: Final = 60_000
_MOST_WAITING: Final = 1000
# For how long the sender waits for a parent that does not read.
_PATIENCE_MS: Final = 1000


class Events:
    """
    The parent's end may be gone or not be read: that never hinders the work, the event is then lost.

    A progress line goes out at most every *every_s* seconds, always with the newest figures, and `close` sends
    the last one.

    Attributes:
        tally: of the calls of chat models, whose totals go out with the progress.
        tells_spans: whether each single call is told, too.
    """

    def __init__(self, descriptor: int, *, every_s: float = PROGRESS_EVERY_S) -> None:
        self._descriptor = descriptor
        self._every_s = every_s
        self._latest: dict[str, Any] | None = None
        self._pace: dict[str, float] = {}
        self._iterations: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._is_torn = False
        self._news = threading.Event()
        self._closed = threading.Event()
        self._sender = threading.Thread(target=self._send_progress, name="progress", daemon=True)
        self._spans: deque[dict[str, Any]] = deque(maxlen=_MOST_WAITING)
        self._told: list[dict[str, Any]] = []
        self.tally = CallTally(self._news.set, self._note_span)
        self.tells_spans = False
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)

    def ready(self) -> None:
        """Say that everything is loaded and an order may come."""
        self._send({"event": "ready"})

    def start(self) -> None:
        """Let progress flow."""
        self._sender.start()

    def progress(self, step: int, total_steps: int, step_name: str) -> None:
        """
        Note how far the work is; cheap, from any thread.

        Executors of others call this with anything. What is no count is not told: a figure less never fails a job.
        """
        if not (_is_count(step) and _is_count(total_steps) and isinstance(step_name, str)):
            return
        # Half a surrogate pair is no UTF-8, and would end the thread that sends.
        name = step_name[:_MAX_STEP_NAME].encode(errors="replace").decode()
        told = {"event": "progress", "step": step, "total_steps": total_steps, "step_name": name}
        self._latest = {**told, **self._pace}
        self._news.set()

    def pace(self, usd: float | None, eta_s: float | None) -> None:
        """Note what was spent and how long it will take, for the progress to come; what is no figure is none."""
        told = {"usd": usd, "eta_s": eta_s}
        self._pace = {name: value for name, value in told.items() if value is not None and _is_figure(value)}

    def iteration(self, fields: Mapping[str, Any]) -> None:
        """Note a step of a search; cheap, from any thread. What is no JSON object is not told."""
        for told in (dict(fields), {key: value for key, value in fields.items() if key != "agent_code"}):
            with contextlib.suppress(TypeError, ValueError):
                line = strict_json.dumps({"event": "iteration", "fields": told}).encode(errors="replace") + b"\n"
                if len(line) <= _MAX_LINE_BYTES:
                    self._iterations.append(line)
                    self._news.set()
                    return

    def close(self) -> None:
        """Send what is still unsent."""
        self._closed.set()
        self._news.set()
        self._sender.join()

    def _send_progress(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            while self._iterations:
                self._send_whole(self._iterations.popleft())
            latest, self._latest = self._latest, None
            if latest is not None:
                self._send(latest)
            self._send_calls()
            if self._closed.wait(self._every_s) and self._latest is None and not self._iterations:
                return

    def _send_whole(self, line: bytes) -> None:
        """A line that is longer than a pipe takes at once; given up when nobody reads."""
        left = b"\n" + line if self._is_torn else line
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        self._is_torn = True
        with contextlib.suppress(OSError):
            while left:
                if not waiting.poll(_PATIENCE_MS):
                    return
                with contextlib.suppress(BlockingIOError):
                    left = left[os.write(self._descriptor, left) :]
            self._is_torn = False

    def _send_calls(self) -> None:
        while self._spans:
            self._send({"event": "call", **self._spans.popleft()})
        totals = self.tally.totals()
        for line in totals:
            if line not in self._told:
                self._send({"event": "calls", "life": os.getpid(), **line})
        self._told = totals

    def _note_span(self, span: Mapping[str, Any]) -> None:
        if self.tells_spans:
            self._spans.append(dict(span))

    def _send(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, (strict_json.dumps(event) + "\n").encode())


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_STEP


def _is_figure(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]
