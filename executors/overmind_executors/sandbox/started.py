"""
A program of a job that was started: how it is limited, asked to end and ended. Only here are programs started.

A bare one has a process group; what leaves that group is found by the agent, by the job's mark. One in bubblewrap
has a world of its own that ends with its first process, whatever it did in there. Limits are on such a program
before it takes its first step: bubblewrap holds it back until we have set them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from overmind_executors.process import own_environment
from overmind_executors.sandbox import pids_group, syscalls

NOTHING: Final = subprocess.DEVNULL
GRACE_S: Final = 2.0
_SET_UP_S: Final = 20.0
# By how much a program in a sandbox gives way to us, who watch it.
_GIVES_WAY: Final = 5
# How a shell, and so bubblewrap, tells of a program that a signal ended.
_BY_SIGNAL: Final = 128
# What our own processes are told, and no program needs to know.
_OURS: Final = ("OVERMIND_JOB_MARK", "OVERMIND_JOB_ID", "OVERMIND_JOB_ATTEMPT", "HOME", "TMPDIR")


class NotStarted(Exception):
    """There is no such command, it may not be run, or its sandbox cannot be made. The message is the system's."""


class Bare:
    """
    A program in a process group of its own.

    Args:
        limits: by their numbers in `resource`. What it starts in its first moment may have none.
        wants_output: whether standard output is for us; else it is the job's log.
        environment: variables for it beside ours.

    Attributes:
        process: the one whose end is the program's.
        root: the process that all of the program descends from.
        stdout: to be read by whoever watches it; None when it belongs into the job's log.
        log: what still has to be brought into the job's log; None when it gets there by itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        stdin: int,
        wants_output: bool,
        limits: Mapping[int, int],
        environment: Mapping[str, str],
    ) -> None:
        self.process = _popen(
            command,
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE if wants_output else None,
            env={**own_environment.without(), **environment},
            process_group=0,
        )
        self.root = self.process.pid
        try:
            _limit(self.root, limits)
        except PermissionError as error:  # a command that becomes another user
            self.end()
            self.close()
            raise NotStarted(f"its limits cannot be set: {error}") from error

    @property
    def stdout(self) -> IO[bytes] | None:
        """See above."""
        return self.process.stdout

    @property
    def log(self) -> IO[bytes] | None:
        """See above."""
        return None

    def has_begun(self) -> bool:
        """Whether the program was reached at all."""
        return True

    def interrupt(self) -> None:
        """Ask it to end, and give it a moment."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)

    def end(self) -> int:
        """
        Kill it, also what a program that has ended left running in its group; the exit code, negative for a signal.
        """
        if self.process.returncode is None:  # not waited for yet, so its number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()

    def close(self) -> None:
        """Give back what it was watched with; it has ended."""
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Boxed(Bare):
    """
    A program in bubblewrap. It gets no descriptor of a file of ours: the log could be written anew through one.

    Args:
        box: the command line of bubblewrap up to the program.
        handed: descriptors that the program gets.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        box: Sequence[str],
        stdin: int,
        wants_output: bool,
        limits: Mapping[int, int],
        environment: Mapping[str, str],
        handed: Sequence[int] = (),
    ) -> None:
        status, told = os.pipe()
        gate, opens = os.pipe()
        self._status = os.fdopen(status, "rb", buffering=0)
        self._first: int | None = None
        self._until_closed = contextlib.ExitStack()
        self._until_closed.callback(self._status.close)
        try:
            with _rules() as rules:
                line = [*box, "--json-status-fd", f"{told}", "--block-fd", f"{gate}", *_seccomp(rules), "--"]
                self.process = _popen(
                    [*line, *command],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if wants_output else subprocess.STDOUT,
                    pass_fds=[*handed, told, gate, *rules],
                    env={**own_environment.without(*_OURS), **environment},
                    process_group=0,
                )
        except NotStarted:
            os.close(opens)
            self._until_closed.close()
            raise
        finally:
            os.close(told)
            os.close(gate)
        self._wants_output = wants_output
        self._begin(opens, limits)

    @property
    def stdout(self) -> IO[bytes] | None:
        """See Bare."""
        return self.process.stdout if self._wants_output else None

    @property
    def log(self) -> IO[bytes] | None:
        """See Bare."""
        return self.process.stderr if self._wants_output else self.process.stdout

    def interrupt(self) -> None:
        """Nothing of what it has is worth a moment: its folder ends with it."""

    def end(self) -> int:
        """Kill its first process, and with it all the others; the exit code, negative for a signal."""
        if self._first is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        code = super().end()
        # Bubblewrap ends when the program has, and leaves us its first process: one for each run.
        if self.root:
            with contextlib.suppress(ChildProcessError):  # bubblewrap has waited, or somebody else is to
                os.waitpid(self.root, 0)
            self.root = 0  # from now on its number may be another's
        return _BY_SIGNAL - code if code > _BY_SIGNAL else code

    def has_begun(self) -> bool:
        """
        Whether the program was reached at all; asked when it has ended by itself.

        A sandbox that cannot be made, or a command that is not there, ends like a program of exit code 1.
        """
        return b"exit-code" in self._status.read()

    def close(self) -> None:
        """See Bare."""
        super().close()
        self._until_closed.close()

    def _begin(self, opens: int, limits: Mapping[int, int]) -> None:
        """Set the limits on the first process, and let it go on; if it is gone, its end will tell why."""
        try:
            self.root = self._first_process()
            with contextlib.suppress(ProcessLookupError):
                self._hold(limits)
        except BaseException as error:
            self.end()
            self.close()
            if isinstance(error, OSError):
                raise NotStarted(f"its limits cannot be set: {error}") from error
            raise
        finally:
            if self.process.returncode is None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(opens, b"!")
            os.close(opens)

    def _hold(self, limits: Mapping[int, int]) -> None:
        if not self.root:
            return
        self._first = os.pidfd_open(self.root)
        self._until_closed.callback(os.close, self._first)
        _limit(self.root, limits)
        os.setpriority(os.PRIO_PROCESS, self.root, os.getpriority(os.PRIO_PROCESS, 0) + _GIVES_WAY)
        if resource.RLIMIT_NPROC in limits and pids_group.is_needed():
            folder = pids_group.home()
            if folder is None:
                raise NotStarted("nothing limits the processes of root here")
            self._until_closed.enter_context(pids_group.joined(self.root, limits[resource.RLIMIT_NPROC], folder))

    def _first_process(self) -> int:
        """Its number outside; 0 when bubblewrap ended before it had made one, which its own end will tell."""
        ready, _, _ = select.select([self._status], [], [], _SET_UP_S)
        if not ready:
            raise NotStarted(f"bubblewrap has made no sandbox within {_SET_UP_S:g} s")
        line = self._status.readline()
        return int(json.loads(line)["child-pid"]) if line else 0


def try_out(line: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
    """Run *line* to its end; its exit code and the last line that it said, on whichever stream."""
    try:
        ended = subprocess.run(line, stdin=NOTHING, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    said = (ended.stderr or ended.stdout).decode(errors="replace").strip().splitlines()
    return ended.returncode, said[-1] if said else ""


def _popen(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **options)
    except (OSError, ValueError) as error:
        raise NotStarted(str(error)) from error


def _limit(pid: int, limits: Mapping[int, int]) -> None:
    """Lower the limits of the process *pid*; none is raised, which would need a privilege."""
    for number, wanted in limits.items():
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, number)
            least = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.prlimit(pid, number, (least, least))


@contextlib.contextmanager
def _rules() -> Iterator[list[int]]:
    """The filter of system calls, to be read once; none for a processor that we do not know."""
    content = syscalls.filter_for()
    if not content:
        yield []
        return
    descriptor = os.memfd_create("rules", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield [descriptor]
    finally:
        os.close(descriptor)


def _seccomp(rules: Sequence[int]) -> list[str]:
    return ["--seccomp", str(rules[0])] if rules else []
