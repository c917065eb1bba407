"""
Ending a child process and everything that it started.

The agent is a sub-reaper, so a process whose parent has ended becomes its child instead of init's; and every
process of a job carries the job's mark in its environment. Killing the process group and then sweeping our own
descendants for the mark therefore reaches also those that called `setsid` and forked twice; one that hid its mark,
or made one up, is found as an orphan of nobody. What outlived an agent that was killed is found by the next one,
by the same mark.

Source:
    prctl(2): PR_SET_CHILD_SUBREAPER; PR_SET_DUMPABLE, which closes /proc/<agent>/environ and /proc/<agent>/mem to
    other processes of the same user.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

MARK: Final = "OVERMIND_JOB_MARK"
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_KILLED_IN_S: Final = 2.0
_SWEEPS: Final = 50
# A process that goes on as its own child may slip through one look at /proc, and hardly through several.
_EMPTY: Final = 2
_EMPTY_AFTER_STRAYS: Final = 6
# Among the fields of /proc/PID/stat that follow the program's name.
_STATE, _PARENT = 0, 1
_PIECE_BYTES: Final = 64 * 1024

_lock = threading.Lock()
_started: set[int] = set()
_living: set[str] = set()


def guard_this_process() -> None:
    """Adopt orphans, and let no other process of this user look into this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


@contextmanager
def marked(mark: str) -> Iterator[None]:
    """Within the block, to be opened before the first of them is there, processes with that mark are of a job."""
    _living.add(mark)
    try:
        yield
    finally:
        _living.discard(mark)


class Process(Protocol):
    """
    A child of this process that was started or adopted; `subprocess.Popen` is one.

    Attributes:
        returncode: as `subprocess` has it, None until somebody has waited.
    """

    @property
    def pid(self) -> int:
        """Its number, which is its own until somebody has waited for it."""

    @property
    def returncode(self) -> int | None:
        """See above."""

    def wait(self) -> int:
        """Wait for its end, and let go of it."""


class Adopted:
    """A child of this process that somebody else has forked for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """See Process."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """A child of our own, as `subprocess.Popen` starts it; any other child of this process is an orphan."""
    with _lock:
        process: subprocess.Popen[bytes] = subprocess.Popen(command, **options)
        _started.add(process.pid)
    return process


def adopt(pid: int) -> Adopted:
    """
    A child of our own from now on; it must be alive, and a child of this process already.

    Raises:
        OSError: it is none.
    """
    with _lock:
        if _fields_of(pid)[_PARENT] != str(os.getpid()).encode():
            raise ChildProcessError(f"process {pid} is no child of this one")
        _started.add(pid)
    return Adopted(pid)


def let_go(process: Process) -> None:
    """Kill a child of our own, wait for it, and forget it."""
    if process.returncode is None:
        _signal(process, signal.SIGKILL)
        process.wait()
    with _lock:
        _started.discard(process.pid)


def interrupt(process: Process) -> None:
    """Ask the job's process group to end."""
    _signal(process, signal.SIGTERM)


def end_tree(process: Process, mark: str, *, pause: Callable[[float], object]) -> int:
    """
    Kill what is left of a job: its group, then whatever else carries its mark.

    Args:
        process: nobody has waited for it yet: its number may be somebody else's after that.
        mark: the value of MARK in the environment of the job's processes.
        pause: sleeps between two sweeps.

    Returns:
        How many processes were found outside the group.
    """
    _signal(process, signal.SIGKILL)
    if has_ended(process, within_s=_KILLED_IN_S):
        process.wait()
    found: set[int] = set()
    empty = 0
    for _ in range(_SWEEPS):
        _reap(process)
        strays = list(_strays(mark))
        if not strays:
            empty += 1
            if empty >= (_EMPTY_AFTER_STRAYS if found else _EMPTY):
                break
            continue
        empty = 0
        found.update(strays)
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pause(0.01)
    return len(found)


def has_ended(process: Process, *, within_s: float) -> bool:
    """Whether *process*, for which nobody has waited yet, ends in that time."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def _signal(process: Process, number: signal.Signals) -> None:
    """To its group; to itself as long as it has not made one."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def end_strangers(owner: str) -> int:
    """
    Kill what an earlier agent's jobs left, when that agent was killed; returns how many there were.

    Args:
        owner: how the marks of that agent's jobs begin. No such agent may be alive.
    """
    strangers = [pid for pid in _all() if (_mark_of(pid) or "").startswith(owner)]
    for pid in strangers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(strangers)


def _reap(ended: Process) -> None:
    """
    Let go of *ended* and of every orphan that has ended, whichever job it was of.

    The children of the other slots are theirs: who waits for them here takes their exit codes away.
    """
    with _lock:
        _started.discard(ended.pid)
        for pid in _children(os.getpid()):
            if pid not in _started:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _strays(mark: str) -> Iterator[int]:
    """What is left of a job among our descendants: nothing of anybody else is ever signalled."""
    ours = _children(os.getpid())
    orphans = set(ours) - _started
    for pid in _with_descendants(ours):
        found = None if pid in _started else _mark_of(pid)
        if found == mark or (found is not None and found not in _living and pid in orphans):
            yield pid


def _mark_of(pid: int) -> str | None:
    """The mark of a living process, empty when it has or shows none; None when it has ended."""
    try:
        environment = _read(f"/proc/{pid}/environ")
    except PermissionError:
        return ""
    except OSError:
        return None
    if not environment and _is_zombie(pid):
        return None
    name = f"\0{MARK}=".encode()
    # Looked for, and not split: what a nursery has forked ends in thousands of empty variables.
    _, is_marked, rest = (b"\0" + environment).partition(name)
    return rest.partition(b"\0")[0].decode(errors="replace") if is_marked else ""


def _is_zombie(pid: int) -> bool:
    try:
        return _fields_of(pid)[_STATE] == b"Z"
    except OSError:
        return True


def _fields_of(pid: int) -> list[bytes]:
    """What `/proc/PID/stat` says behind the name of the program, which may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def _all() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _with_descendants(pids: list[int]) -> list[int]:
    found = list(pids)
    for pid in found:  # which grows meanwhile
        found += _children(pid)
    return found


def _children(parent: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.scandir(f"/proc/{parent}/task"):
            with suppress(OSError):
                found += map(int, _read(f"{thread.path}/children").split())
    return found


def _read(path: str) -> bytes:
    """All of a file of /proc, without a file object: a job that does nothing has fifty of them read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(partial(os.read, descriptor, _PIECE_BYTES), b""))
    finally:
        os.close(descriptor)
