"""Runs an executor in a child process: started clean, watched while it works, ended with all that it started."""

from __future__ import annotations

import json
import os
import re
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
from overmind_agent.errors import ExecutorError, InvalidInput, JobError, Stopped
from overmind_agent.jobs import Claim, Progress, Result, ResultFile, StopReason
from overmind_agent.ports import Clock, Workspace
from overmind_executors import strict_json
from overmind_executors.contract import ModelEndpoint

TICK_S: Final = 0.1
RESULT_BYTES: Final = 1024 * 1024
EVENT_BYTES: Final = 64 * 1024
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
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
    """

    models: Sequence[ModelEndpoint]
    data_roots: Sequence[Path]
    environment: Mapping[str, str]
    grace_s: float
    timeout_s: float
    nice: int


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
            if reason is not None and not (reason in _MAY_END_ANYWAY and has_ended(workspace)):
                raise Stopped(reason)
        return read_result(workspace)

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
        mark = f"{claim.job.id}/{claim.attempt}/{secrets.token_hex(8)}"
        events, events_in_child = os.pipe()
        with os.fdopen(events, "rb", buffering=0) as reader:
            order = _in_memory(self._order(claim, parameters, workspace))
            try:
                child = self._start(claim, workspace, mark, order, events_in_child)
            finally:
                os.close(order)
                os.close(events_in_child)
            try:
                reason = self._watch(child, reader, claim, on_progress, stop_reason)
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
        with workspace.log.open("ab") as log:
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
        name = signal.Signals(-returncode).name
        return ExecutorError(f"the job's process was killed by {name}", reason="killed_by_signal")
    return ExecutorError(f"the job's process ended with {returncode} and left no result", reason="no_result")


# Work that was done in the moment of the wish to stop is not thrown away, unless nobody wants it any more.
_MAY_END_ANYWAY: Final = frozenset({StopReason.AGENT_STOPPING, StopReason.TIMEOUT})


def has_ended(workspace: Workspace) -> bool:
    """Whether the work in *workspace* needs no child any more: it is done, or it failed."""
    try:
        read_result(workspace)
    except JobError:
        return workspace.result.exists()
    except Stopped:
        return False
    return True


def read_result(workspace: Workspace) -> Result:
    """
    What the child left as its last word.

    Raises:
        JobError: the child says that the job failed, or what it left cannot be read.
        Stopped: it says that it was asked to end.
    """
    try:
        with workspace.result.open("rb") as file:
            found = strict_json.loads(file.read(RESULT_BYTES + 1))
        match found["status"]:
            case "done":
                return Result(
                    files=tuple(_result_file(workspace, line) for line in found["files"]),
                    outcome=dict(found["outcome"]),
                )
            case "failed":
                raise _failure(str(found["reason"]), str(found["message"]))
            case _:
                raise Stopped(StopReason.AGENT_STOPPING)
    except (OSError, strict_json.NotJson, KeyError, TypeError, ValueError) as error:
        raise ExecutorError("the job's result cannot be read", reason="invalid_result") from error


def _result_file(workspace: Workspace, line: Mapping[str, Any]) -> ResultFile:
    name = str(line["name"])
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(name)
    return ResultFile(name, workspace.output / name, int(line["size_bytes"]), str(line["sha256"]))


def _failure(reason: str, message: str) -> JobError:
    if reason == InvalidInput.reason:
        return InvalidInput(message)
    # The control plane takes no other form, and a failure that it refuses would never be known.
    return ExecutorError(message, reason=reason if _REASON.fullmatch(reason) else None)
