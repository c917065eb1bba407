"""
An executor whose every run leaves lines in a ledger, so that it is known how often the work was really done.

A line is one JSON object: `job_id`, `attempt`, `what` (`begun`, `ended`), `where` (the host's folder), `at_s`, and
at the end of the work `sha256` of the output file.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overmind_executors.contract import Context, InvalidParameters, Problem, Result, WorkStopped

OUTPUT = "output.bin"
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Task:
    """
    What to do.

    Attributes:
        ledger: the file to write to.
        work_s: how long the work takes.
        size_bytes: of the output.
        small_files: how many of a few bytes there are beside it.
        stray: the file that a process which the job leaves behind writes after *work_s*; None for no such process.
        tells: whether the job prints its environment.
        kills: whether the job kills its agent.
        log_bytes: what it prints in the course of *work_s*, computing all the time; 0 to sleep instead.
    """

    ledger: Path
    work_s: float
    size_bytes: int
    small_files: int
    stray: Path | None
    tells: bool
    kills: bool
    log_bytes: int


class LedgerExecutor:
    """Sleeps, writes a file of bytes that follow from the job's id, and says so in the ledger."""

    job_type = "ledger"
    is_resumable = True

    def validate(self, parameters: Mapping[str, Any]) -> Task:
        """See Executor."""
        if not isinstance(parameters.get("ledger"), str):
            raise InvalidParameters(Problem("ledger", "must be the path of a file"))
        return Task(
            Path(parameters["ledger"]),
            float(parameters.get("work_s", 0)),
            int(parameters.get("size_bytes", 64)),
            int(parameters.get("small_files", 0)),
            Path(parameters["stray"]) if "stray" in parameters else None,
            bool(parameters.get("tells")),
            bool(parameters.get("kills")),
            int(parameters.get("log_bytes", 0)),
        )

    def run(self, task: Task, context: Context) -> Result:
        """See Executor."""
        _write(task, context, what="begun", pid=os.getpid())
        if task.tells:
            print(dict(os.environ), flush=True)  # noqa: T201
        if task.kills:
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()  # it dies with its agent, in a moment
        if task.stray is not None:
            _leave_behind(task.stray, task.work_s)
        if task.log_bytes:
            _toil(task, context)
        elif task.work_s and context.stop.wait(task.work_s):
            raise WorkStopped
        digest = _make(context.output / OUTPUT, context.job_id, task.size_bytes)
        small = [f"small-{number:05}.txt" for number in range(task.small_files)]
        for name in small:
            (context.output / name).write_text(name)
        print(f"worked on {context.job_id}", flush=True)  # noqa: T201 - the job's log
        _write(task, context, what="ended", sha256=digest)
        return Result((OUTPUT, *small), {"sha256": digest})


def _make(path: Path, job_id: str, size_bytes: int) -> str:
    """Write the output of a job, which may be larger than memory; returns its digest."""
    piece, sha256 = hashlib.sha256(job_id.encode()).digest() * (PIECE_BYTES // 32), hashlib.sha256()
    with path.open("wb") as file:
        for at in range(0, size_bytes, PIECE_BYTES):
            part = piece[: size_bytes - at]
            file.write(part)
            sha256.update(part)
    return sha256.hexdigest()


def _toil(task: Task, context: Context) -> None:
    """Compute without a pause and print lines of 1 KiB, evenly over the time that the work takes."""
    began_s, printed, line = time.monotonic(), 0, "x" * 1023
    while (passed_s := time.monotonic() - began_s) < task.work_s:
        if context.stop.is_set():
            raise WorkStopped
        hashlib.sha256(bytes(1 << 16)).digest()
        while printed < task.log_bytes * min(1.0, passed_s / task.work_s):
            print(line)  # noqa: T201
            printed += 1024


def _leave_behind(stray: Path, after_s: float) -> None:
    """A process that belongs to no group of ours."""
    program = f"trap '' TERM HUP; sleep {after_s}; : > '{stray}'"
    subprocess.Popen(["/bin/sh", "-c", program], start_new_session=True)


def _write(task: Task, context: Context, **facts: Any) -> None:
    where = context.output.parents[3].name  # <host>/state/jobs/<job id>/out
    told = {"job_id": context.job_id, "attempt": context.attempt, "where": where, "at_s": time.time(), **facts}
    line = json.dumps(told) + "\n"
    ledger = os.open(task.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)
