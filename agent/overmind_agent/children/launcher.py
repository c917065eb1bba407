"""Runs an executor in a child process: started clean, watched while it works, ended with all that it started."""

from __future__ import annotations

import math
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.children import processes
from overmind_agent.children.memory_kills import memory_kills
from overmind_agent.children.nursery import Nursery
from overmind_agent.children.order import ChildSettings
from overmind_agent.children.result import MAY_END_ANYWAY, has_ended, read_result
from overmind_agent.children.watch import ChildWatch
from overmind_agent.errors import ExecutorError, JobError, Stopped
from overmind_agent.files.plain import open_plain
from overmind_agent.jobs import Claim, Progress, Result, StopReason
from overmind_agent.logs import job_log
from overmind_agent.ports import Clock, Workspace
from overmind_executors.process.given import in_memory
from overmind_executors.process.host_faults import NO_ROOM, reason_of
from overmind_executors.removal import remove

# How often a wish to stop, the time and the log are looked at; the child's end and its events come by themselves.
TICK_S: Final = 0.1
# Work whose lease is lost has to be gone before the lease ends, and nobody wants what it would still save.
LOST_GRACE_S: Final = 1.0


class ProcessLauncher:
    """
    Fills the Launcher port.

    Args:
        nursery: forks children in milliseconds; None to start each one, which takes a third of a second.
        on_calls: told what the job says of its calls of chat models; untrusted.
        count_memory_kills: how often the kernel has ended one of our processes; None where that is not known.
    """

    def __init__(
        self,
        settings: ChildSettings,
        clock: Clock,
        log: FilteringBoundLogger,
        nursery: Nursery | None = None,
        *,
        on_calls: Callable[[Claim, Mapping[str, Any]], object] = lambda _claim, _told: None,
        count_memory_kills: Callable[[], int | None] = memory_kills,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._nursery = nursery
        self._on_calls = on_calls
        self._count_memory_kills = count_memory_kills

    def run(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        workspace: Workspace,
        *,
        on_progress: Callable[[Progress], None],
        on_iteration: Callable[[Mapping[str, Any]], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> Result:
        """See Launcher."""
        if not has_ended(workspace):
            reason = self._run_child(
                claim,
                parameters,
                workspace,
                on_progress=on_progress,
                on_iteration=on_iteration,
                stop_reason=stop_reason,
            )
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
        on_iteration: Callable[[Mapping[str, Any]], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> StopReason | None:
        workspace.result.unlink(missing_ok=True)
        kills_before = self._count_memory_kills()
        mark = f"{self._settings.owner}#{claim.job.id}/{claim.attempt}/{secrets.token_hex(8)}"
        environment = self._settings.environment_of(claim, workspace, mark)
        events, events_in_child = os.pipe()
        with os.fdopen(events, "rb", buffering=0) as reader, processes.marked(mark):
            with ExitStack() as until_started:
                until_started.callback(os.close, events_in_child)
                order = until_started.enter_context(
                    in_memory(self._settings.order_for(claim, parameters, workspace))
                )
                log = until_started.enter_context(_open_log(workspace))
                _make_temporary(workspace)
                child = self._start(environment, workspace.folder, (order, log.fileno(), events_in_child))
            try:
                with ChildWatch(child, reader, on_progress, on_iteration, partial(self._on_calls, claim)) as watch:
                    reason = self._watch(child, watch, workspace, stop_reason)
            finally:
                strays = processes.end_tree(child, mark, pause=self._clock.sleep)
                remove(workspace.temporary)
                if strays:
                    self._log.warning("job.strays_killed", job_id=claim.job.id, processes=strays)
        if reason is None and not workspace.result.exists():
            raise _how_it_died(child.returncode, was_for_memory=kills_before != self._count_memory_kills())
        return reason

    def _start(
        self, environment: Mapping[str, str], folder: Path, descriptors: tuple[int, int, int]
    ) -> processes.Process:
        """A child that has its order; *descriptors* are the order, the log and the events."""
        nice = self._settings.nice
        if self._nursery is not None:
            child = self._nursery.fork(environment, folder, nice=nice, descriptors=descriptors)
            if child is not None:
                self._log.debug("child.started", way="forked")
                return child
        self._log.debug("child.started", way="started")
        order, log, events = descriptors
        command = [sys.executable, "-P", "-m", "overmind_executors.process.child"]
        command += ["--events-fd", str(events), "--parent", str(os.getpid()), "--nice", str(nice)]
        return processes.start(
            command,
            cwd=folder,
            env=environment,
            stdin=order,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[events],
            start_new_session=True,
        )

    def _watch(
        self,
        child: processes.Process,
        watch: ChildWatch,
        workspace: Workspace,
        stop_reason: Callable[[], StopReason | None],
    ) -> StopReason | None:
        """Until the child has ended, or has had its time to; returns why it was asked to end, if it was."""
        kill_at_s: float | None = None
        reason: StopReason | None = None
        while not watch.wait(TICK_S):
            job_log.trim(workspace.log)
            now_s = self._clock.now_s()
            if reason is None:
                reason = stop_reason()
                if reason is not None:
                    processes.interrupt(child)
                    is_lost = reason is StopReason.LEASE_LOST
                    kill_at_s = now_s + min(self._settings.grace_s, LOST_GRACE_S if is_lost else math.inf)
            if kill_at_s is not None and now_s >= kill_at_s:
                break
        return reason


def _open_log(workspace: Workspace) -> IO[bytes]:
    try:
        return open_plain(workspace.log, append=True)
    except OSError as error:
        raise ExecutorError(f"the job's log cannot be written: {error}", reason=reason_of(error)) from error


def _make_temporary(workspace: Workspace) -> None:
    remove(workspace.temporary)
    try:
        workspace.temporary.mkdir(mode=0o700)
    except OSError as error:
        raise ExecutorError(f"the job's folder cannot be written: {error}", reason=reason_of(error)) from error


def _how_it_died(returncode: int | None, *, was_for_memory: bool) -> JobError:
    if returncode == -signal.SIGKILL and was_for_memory:
        return ExecutorError("the kernel killed the job's process for want of memory", reason="out_of_memory")
    if returncode is not None and returncode < 0:
        hint = "; mostly the kernel, for want of memory: see its log" if returncode == -signal.SIGKILL else ""
        name = _signal_name(-returncode)
        return ExecutorError(f"the job's process was killed by {name}{hint}", reason="killed_by_signal")
    if returncode == NO_ROOM:
        return ExecutorError("the disk is full: the job's last word could not be written", reason="disk_full")
    return ExecutorError(f"the job's process ended with {returncode} and left no result", reason="no_result")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"
