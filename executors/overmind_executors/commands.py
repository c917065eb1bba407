"""
One command, run to its end within its limits and ended with all that it started.

It stays in the job's session and carries the job's mark, so whatever of it outlives this process is found and ended
by the agent, too.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overmind_executors.contract import Stop, WorkStopped

_LOOK_EVERY_S: Final = 0.05
_CHUNK_BYTES: Final = 64 << 10
# From the wish to end to the kill.
_GRACE_S: Final = 2.0


@dataclass(frozen=True)
class CommandLimits:
    """
    Attributes:
        timeout_s: of the whole run.
        stdout_bytes: more ends the run. None: standard output is the job's log.
        file_bytes: the largest file that the command may write.
    """

    timeout_s: float
    stdout_bytes: int | None = None
    file_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """
    How a command ended.

    Attributes:
        code: its exit code, negative for a signal.
        ended_by: None, or the limit that ended it: `timeout` or `output`.
        stdout: what it said, up to the limit.
    """

    code: int
    ended_by: str | None = None
    stdout: bytes = b""


class NotStarted(Exception):
    """There is no such command, or it may not be run. The message is the system's."""


def run(
    command: Sequence[str], *, cwd: Path, limits: CommandLimits, stop: Stop, stdin: bytes | None = None
) -> Ended:
    """
    Run *command*; standard error goes to the job's log.

    Args:
        command: a list of arguments; no shell sees it.
        stdin: what it reads, None for nothing.

    Raises:
        NotStarted: it could not be started.
        WorkStopped: *stop* was set; it was ended.
    """
    with _in_memory(stdin) as given:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=given,
                stdout=None if limits.stdout_bytes is None else subprocess.PIPE,
                process_group=0,
            )
        except (OSError, ValueError) as error:
            raise NotStarted(str(error)) from error
    try:
        if limits.file_bytes is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
        return _watch(process, limits, stop)
    finally:
        _end(process)
        if process.stdout:
            process.stdout.close()


def _watch(process: subprocess.Popen[bytes], limits: CommandLimits, stop: Stop) -> Ended:
    ends_at_s = time.monotonic() + limits.timeout_s
    said = bytearray()
    with selectors.DefaultSelector() as selector, _pidfd(process.pid) as ended:
        selector.register(ended, selectors.EVENT_READ)
        if process.stdout is not None:
            selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stop.is_set():
                _interrupt(process)
                raise WorkStopped
            ready = {key.fileobj for key, _ in selector.select(_LOOK_EVERY_S)}
            chunk = os.read(process.stdout.fileno(), _CHUNK_BYTES) if process.stdout in ready else b""
            said += chunk
            if process.stdout in ready and not chunk:
                selector.unregister(process.stdout)
            if limits.stdout_bytes is not None and len(said) > limits.stdout_bytes:
                return Ended(_end(process), "output", bytes(said[: limits.stdout_bytes]))
            if ended in ready and not chunk:
                return Ended(_end(process), None, bytes(said))
            if time.monotonic() >= ends_at_s:
                return Ended(_end(process), "timeout", bytes(said))


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """A descriptor that can be read when the process has ended, which stays to be waited for."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Kill the command's process group, also what a command that has ended left running in it."""
    if process.returncode is None:  # not waited for yet, so its number is still its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@contextlib.contextmanager
def _in_memory(content: bytes | None) -> Iterator[int]:
    """Something to read *content* from that no slow reader can block."""
    if content is None:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
