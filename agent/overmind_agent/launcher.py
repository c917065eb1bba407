"""Runs an executor in a child process: started clean, watched while it works, ended with all that it started."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from overmind_agent import processes
from overmind_agent.child_result import MAY_END_ANYWAY, has_ended, read_result
from overmind_agent.errors import ExecutorError, JobError, Stopped
from overmind_agent.jobs import Claim, Progress, Result, StopReason
from overmind_agent.plain_files import open_plain
from overmind_agent.ports import Clock, Workspace
from overmind_executors import strict_json
from overmind_executors.contract import ModelEndpoint

TICK_S: Final = 0.1
EVENT_BYTES: Final = 64 * 1024
# A log that grows beyond the first is cut back to the second.
LOG_BYTES: Final = 64 * 1024 * 1024
LOG_KEPT_BYTES: Final = 16 * 1024 * 1024
SAFE_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class ChildSettings:
    """
    What every child of this host gets.

    Attributes:
        models: the chat models that jobs may name; their keys go to the child's standard input alone.
        environment: variables on top of the fixed ones; never the agent's own environment.
        grace_s: between the wish to stop and the kill.
        timeout_s: the longest time an executor may run here, whatever the job says.
        nice: added to the child's priority, so that heartbeats come first.
        owner: how the marks of all its processes begin, so that a later agent finds what outlived this one.
    """

    models: Sequence[ModelEndpoint]
    data_roots: Sequence[Path]
    environment: Mapping[str, str]
    grace_s: float
    timeout_s: float
    nice: int
    owner: str


class ProcessLauncher:
    """Fills the Launcher port."""

    def __init__(self, settings: ChildSettings, clock: Clock, log: FilteringBoundLogger) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log

    def run(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        workspace: Workspace,
        *,
        on_progress: Callable[[Progress], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> Result:
        """See Launcher."""
        if not has_ended(workspace):
            reason = self._run_child(claim, parameters, workspace, on_progress=on_progress, stop_reason=stop_reason)
            if reason is not None and not (reason in MAY_END_ANYWAY and has_ended(workspace)):
                raise Stopped(reason)
        try:
            return read_result(workspace)
        except Stopped as stopped:
            raise ExecutorError("the executor stopped, though nobody had asked it to") from stopped

    def _run_child(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        workspace: Workspace,
        *,
        on_progress: Callable[[Progress], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> StopReason | None:
        workspace.result.unlink(missing_ok=True)
        mark = f"{self._settings.owner}#{claim.job.id}/{claim.attempt}/{secrets.token_hex(8)}"
        events, events_in_child = os.pipe()
        with os.fdopen(events, "rb", buffering=0) as reader:
            order = _in_memory(self._order(claim, parameters, workspace))
            try:
                child = self._start(claim, workspace, mark, order, events_in_child)
            finally:
                os.close(order)
                os.close(events_in_child)
            try:
                reason = self._watch(child, reader, claim, workspace, on_progress, stop_reason)
            finally:
                strays = processes.end_tree(child, mark, pause=self._clock.sleep)
                if strays:
                    self._log.warning("job.strays_killed", job_id=claim.job.id, processes=strays)
        if reason is None and not workspace.result.exists():
            raise _how_it_died(child.returncode)
        return reason

    def _start(
        self, claim: Claim, workspace: Workspace, mark: str, order: int, events_in_child: int
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "overmind_executors.child"]
        command += ["--events-fd", str(events_in_child), "--parent", str(os.getpid())]
        if self._settings.nice:
            command = ["nice", "-n", str(self._settings.nice), *command]
        try:
            log = open_plain(workspace.log, append=True)
        except OSError as error:
            raise ExecutorError(f"the job's log cannot be written: {error}") from error
        with log:
            return processes.start(
                command,
                cwd=workspace.folder,
                env=self._environment(claim, workspace, mark),
                stdin=order,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[events_in_child],
                start_new_session=True,
            )

    def _environment(self, claim: Claim, workspace: Workspace, mark: str) -> dict[str, str]:
        return {
            "LANG": "C.UTF-8",
            "PATH": SAFE_PATH,
            **self._settings.environment,
            "HOME": str(workspace.folder),
            "TMPDIR": str(workspace.folder),
            "OVERMIND_JOB_ID": claim.job.id,
            "OVERMIND_JOB_ATTEMPT": str(claim.attempt),
            processes.MARK: mark,
        }

    def _order(self, claim: Claim, parameters: Mapping[str, Any], workspace: Workspace) -> bytes:
        here = workspace.folder
        order = {
            "job_id": claim.job.id,
            "attempt": claim.attempt,
            "job_type": claim.job.job_type,
            "parameters": dict(parameters),
            "input_file": str(workspace.input_file.relative_to(here)) if workspace.input_name else None,
            "input_name": workspace.input_name,
            "output": str(workspace.output.relative_to(here)),
            "state": str(workspace.state.relative_to(here)),
            "models": [asdict(model) for model in self._settings.models],
            "data_roots": [str(root) for root in self._settings.data_roots],
        }
        return json.dumps(order).encode()

    def _watch(
        self,
        child: subprocess.Popen[bytes],
        events: Any,
        claim: Claim,
        workspace: Workspace,
        on_progress: Callable[[Progress], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> StopReason | None:
        """Until the child has ended, or has had its time to; returns why it was asked to end, if it was."""
        timeout_s = min(self._settings.timeout_s, claim.job.timeout_s or self._settings.timeout_s)
        ends_at_s = self._clock.now_s() + timeout_s
        kill_at_s: float | None = None
        reason: StopReason | None = None
        with EventReader(events, on_progress) as reader:
            while child.poll() is None:
                reader.read(TICK_S)
                limit_log(workspace.log)
                now_s = self._clock.now_s()
                if reason is None:
                    reason = stop_reason() or (StopReason.TIMEOUT if now_s >= ends_at_s else None)
                    if reason is not None:
                        processes.interrupt(child)
                        kill_at_s = now_s + self._settings.grace_s
                if kill_at_s is not None and now_s >= kill_at_s:
                    break
            reader.read(0)
        return reason


def limit_log(log: Path) -> None:
    """Cut what a job wrote beyond LOG_BYTES, leaving the beginning, and say how much was lost."""
    try:
        if (size := log.lstat().st_size) <= LOG_BYTES:
            return
        with open_plain(log, append=True) as file:
            file.truncate(LOG_KEPT_BYTES)
            file.write(b"\n[%d bytes of this log were cut here]\n" % (size - LOG_KEPT_BYTES))
    except OSError:
        return  # the job has put something else there; it is its own log


class EventReader:
    """The child's events: JSON lines on a pipe. What is not one of ours is ignored, and so is a line too long."""

    def __init__(self, pipe: Any, on_progress: Callable[[Progress], None]) -> None:
        self._pipe = pipe
        self._on_progress = on_progress
        self._selector = selectors.DefaultSelector()
        self._rest = b""

    def __enter__(self) -> EventReader:
        os.set_blocking(self._pipe.fileno(), False)
        self._selector.register(self._pipe, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def read(self, timeout_s: float) -> None:
        """Take what is there, after waiting for it for at most *timeout_s* seconds."""
        if not self._selector.get_map():
            threading.Event().wait(timeout_s)  # the child closed its end; it will be gone in a moment
            return
        for _ in self._selector.select(timeout_s):
            chunk = self._pipe.read(EVENT_BYTES)
            if not chunk:
                self._selector.unregister(self._pipe)
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[-EVENT_BYTES:]
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = strict_json.loads(line)
            if event["event"] == "progress":
                step, total = event["step"], event["total_steps"]
                # Goes into the heartbeat of all jobs, which a number that is none would have refused.
                if type(step) is type(total) is int and step >= 0 and total >= 0:
                    self._on_progress(Progress(step, total, str(event["step_name"])[:255]))
        except (strict_json.NotJson, KeyError, TypeError):
            return


def _in_memory(content: bytes) -> int:
    """
    A descriptor to read *content* from. It may hold keys, so it is not a file; and it is not a pipe, which a child
    that does not read would block.
    """
    descriptor = os.memfd_create("order", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _how_it_died(returncode: int | None) -> JobError:
    if returncode is not None and returncode < 0:
        name = _signal_name(-returncode)
        return ExecutorError(f"the job's process was killed by {name}", reason="killed_by_signal")
    return ExecutorError(f"the job's process ended with {returncode} and left no result", reason="no_result")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"
