"""
One command, run to its end within its limits and ended with all that it started.

Bare, it stays in the job's session and carries the job's mark, so whatever of it outlives this process is found and
ended by the agent, too; in a sandbox nothing outlives it.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import selectors
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from overmind_executors.contract import Stop, WorkStopped
from overmind_executors.process.given import in_memory
from overmind_executors.sandbox import census
from overmind_executors.sandbox.started import NOTHING, Bare, Boxed, NotStarted

__all__ = ["CommandLimits", "Ended", "NotStarted", "run"]

_LOOK_EVERY_S: Final = 0.05
_LOOK_AT_FOLDER_EVERY_S: Final = 0.5
_CHUNK_BYTES: Final = 64 << 10
_MOST_FILES_OPEN: Final = 1024
_LOG: Final = 2
# So many more the kernel lets through before it says no: a command at its limit is told from one beyond it.
_BEYOND: Final = 4


@dataclass(frozen=True)
class CommandLimits:
    """
    None is no limit.

    Attributes:
        timeout_s: of the whole run.
        stdout_bytes: more ends the run. None: standard output is the job's log.
        file_bytes: the largest file that the command may write.
        memory_bytes: of the command with all that it started.
        processes: of the command with all that it started, threads counted.
        folder_bytes: of all that lies in its working folder.
    """

    timeout_s: float
    stdout_bytes: int | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    folder_bytes: int | None = None

    def of_the_kernel(self, *, is_boxed: bool) -> dict[int, int]:
        """
        What the kernel is to keep, by its numbers in `resource`.

        Memory it limits for each process alone, and processes for each user: only in a sandbox, which has users of
        its own, is that the command's own number. The sums are watched.
        """
        limits = {resource.RLIMIT_CORE: 0}
        if self.file_bytes is not None:
            limits[resource.RLIMIT_FSIZE] = self.file_bytes
        if self.memory_bytes is not None:
            limits[resource.RLIMIT_DATA] = self.memory_bytes
            limits[resource.RLIMIT_NOFILE] = _MOST_FILES_OPEN
            limits[resource.RLIMIT_CPU] = math.ceil(self.timeout_s * (os.cpu_count() or 1)) + 1
        if self.processes is not None and is_boxed:
            limits[resource.RLIMIT_NPROC] = self.processes + _BEYOND
        return limits


@dataclass(frozen=True)
class Ended:
    """
    How a command ended.

    Attributes:
        code: its exit code, negative for a signal.
        ended_by: None, or the limit that ended it: `timeout`, `output`, `memory`, `processes` or `disk`.
        stdout: what it said, up to the limit.
    """

    code: int
    ended_by: str | None = None
    stdout: bytes = b""


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    limits: CommandLimits,
    stop: Stop,
    stdin: bytes | None = None,
    box: Sequence[str] | None = None,
    handed: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """
    Run *command*; standard error goes to the job's log.

    Args:
        command: a list of arguments; no shell sees it.
        cwd: where it starts, and what `folder_bytes` is about; one in a sandbox starts where that says.
        stdin: what it reads, None for nothing.
        box: the command line of its sandbox, None for none.
        handed: descriptors that a command in a sandbox gets.
        environment: variables for it beside those of this process.

    Raises:
        NotStarted: it could not be started, or its sandbox could not be made.
        WorkStopped: *stop* was set; it was ended.
    """
    shared: dict[str, Any] = {
        "wants_output": limits.stdout_bytes is not None,
        "limits": limits.of_the_kernel(is_boxed=box is not None),
        "environment": environment or {},
    }
    with contextlib.nullcontext(NOTHING) if stdin is None else in_memory(stdin) as given:
        started = (
            Bare(command, cwd=cwd, stdin=given, **shared)
            if box is None
            else Boxed(command, box=box, stdin=given, handed=handed, **shared)
        )
    with contextlib.closing(started):
        try:
            ended = _Watch(started, limits, cwd).until_the_end(stop)
        finally:
            started.end()
        if ended.code and not ended.ended_by and not started.has_begun():
            raise NotStarted("its sandbox could not be made, or it is not there; see the log")
        return ended


class _Watch:
    """One command under way."""

    def __init__(self, started: Bare, limits: CommandLimits, folder: Path) -> None:
        self._started = started
        self._limits = limits
        self._folder = folder
        self._said = bytearray()
        now_s = time.monotonic()
        self._ends_at_s = now_s + limits.timeout_s
        self._look_at_s, self._folder_at_s = now_s + _LOOK_EVERY_S, now_s + _LOOK_AT_FOLDER_EVERY_S

    def until_the_end(self, stop: Stop) -> Ended:
        """How it ended, or was ended; raises WorkStopped."""
        with selectors.DefaultSelector() as selector, _pidfd(self._started.process.pid) as over:
            selector.register(over, selectors.EVENT_READ)
            for stream in (self._started.stdout, self._started.log):
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ)
            while True:
                if stop.is_set():
                    self._started.interrupt()
                    raise WorkStopped
                ready = [key.fd for key, _ in selector.select(_LOOK_EVERY_S)]
                at_their_end = [number for number in ready if number != over and not self._take(number)]
                for number in at_their_end:
                    selector.unregister(number)
                is_over = over in ready and len(at_their_end) == len(ready) - 1  # nothing was left to be read
                limit = self._limit_met(is_over=is_over)
                if limit or is_over:
                    return Ended(self._started.end(), limit, bytes(self._said[: self._limits.stdout_bytes]))

    def _take(self, number: int) -> bool:
        """Read what there is; False at the end."""
        chunk = os.read(number, _CHUNK_BYTES)
        if self._started.stdout is not None and number == self._started.stdout.fileno():
            self._said += chunk
        else:
            with contextlib.suppress(OSError):  # a log that a full disk does not take is lost
                os.write(_LOG, chunk)
        return bool(chunk)

    def _limit_met(self, *, is_over: bool) -> str | None:
        limits, now_s = self._limits, time.monotonic()
        if limits.stdout_bytes is not None and len(self._said) > limits.stdout_bytes:
            return "output"
        if is_over:
            return None
        if now_s >= self._ends_at_s:
            return "timeout"
        if limits.processes is not None and limits.memory_bytes is not None and now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_EVERY_S
            found = census.count(
                self._started.root, most_processes=limits.processes, most_bytes=limits.memory_bytes
            )
            if found.processes > limits.processes:
                return "processes"
            if found.memory_bytes > limits.memory_bytes:
                return "memory"
        if limits.folder_bytes is not None and now_s >= self._folder_at_s:
            self._folder_at_s = now_s + _LOOK_AT_FOLDER_EVERY_S
            if census.folder_bytes(self._folder, most=limits.folder_bytes) > limits.folder_bytes:
                return "disk"
        return None


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """A descriptor that can be read when the process has ended, which stays to be waited for."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
