"""
The child process of one job: forked by `nursery`, or started as
`python -P -m overmind_executors.process.child --events-fd N --parent PID [--nice N]`.

```
parent ── starts ─▶ child says {"event": "ready"}, waits
parent ── one order on standard input, then end of file ─▶ child works, says how far it is
child  ── result.json in its working folder, exit code 0 ─▶ parent
```

`result.json` is `{"status": "done", "files": […], "outcome": {…}}`, `{"status": "failed", "reason", "message"}` or
`{"status": "stopped"}`; a file is `{"name", "size_bytes", "sha256", "is_required", "is_model"}`. Without it the
child was killed or met a bug of ours. End of file without an order sends a spare home. Standard output and standard
error are the job's log.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

from overmind_executors import durable, registry, result_files, strict_json, trace_context
from overmind_executors.contract import Context, ExecutionFailed, InvalidParameters, WorkStopped
from overmind_executors.functions import FunctionExecutor
from overmind_executors.process import order, own_process
from overmind_executors.process.events import Events
from overmind_executors.process.host_faults import NO_ROOM, reason_of
from overmind_executors.process.order import Order
from overmind_executors.removal import remove
from overmind_executors.stopping import StopFlag, on_signal

RESULT: Final = "result.json"
_MAX_MESSAGE: Final = 2000
_BEGUN: Final = "begun"


class Signals:
    """SIGTERM sends a waiting spare home at once, and asks a working child to stop."""

    def __init__(self) -> None:
        self.stop = StopFlag()
        self._working = threading.Event()
        on_signal(self._heard)

    def work_begins(self) -> None:
        """From now on a signal is a wish, not an end."""
        self._working.set()

    def _heard(self) -> None:
        if not self._working.is_set():
            os._exit(0)
        self.stop.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job; returns the exit code: 0 however the job ended, 70 for a bad order."""
    options = _parser().parse_args(arguments)
    return do_one(events_fd=options.events_fd, parent=options.parent, nice=options.nice)


def do_one(*, events_fd: int, parent: int, nice: int) -> int:
    """As `main`, whose options these are, for a process that has been forked: it has no use for a parser."""
    workspace = Path.cwd()
    if not own_process.die_with(parent):
        return 0
    own_process.leave_no_core()
    own_process.adopt_orphans()
    os.nice(nice)
    signals = Signals()
    events = Events(events_fd)
    log = _logger()
    events.ready()
    raw = sys.stdin.buffer.read()
    if not raw:
        return 0
    signals.work_begins()
    try:
        job = order.read(raw).within(workspace)
    except order.BadOrder as error:
        log.error("order.refused", message=str(error))
        return 70
    events.tells_spans = job.tells_spans
    events.start()
    told = _carry_out(job, events, signals.stop, log.bind(job_id=job.job_id, job_type=job.job_type))
    events.close()
    try:
        durable.write(workspace / RESULT, strict_json.dumps(told).encode())
    except OSError as error:
        if reason_of(error) != "disk_full":
            raise
        return NO_ROOM
    return 0


def _carry_out(job: Order, events: Events, stop: StopFlag, log: FilteringBoundLogger) -> dict[str, Any]:
    """The one place in this process where every exception ends: as the text of `result.json`."""
    try:
        return _work(job, events, stop, log)
    except WorkStopped:
        return {"status": "stopped"}
    except InvalidParameters as error:
        return _failed(job, "invalid_input", str(error))
    except registry.UnknownJobType as error:
        return _failed(job, "unknown_job_type", str(error))
    except ExecutionFailed as error:
        return _failed(job, reason_of(error) or error.reason, str(error))
    except Exception as error:
        if (reason := reason_of(error)) is not None:
            return _failed(job, reason, f"on this host: {error}")
        log.error("executor.broke", traceback=job.redact(traceback.format_exc()))
        return _failed(job, "executor_error", f"{type(error).__name__}: {error}")


def _work(job: Order, events: Events, stop: StopFlag, log: FilteringBoundLogger) -> dict[str, Any]:
    executor = FunctionExecutor(job.function) if job.function else registry.executor_for(job.job_type)
    task = executor.validate(job.parameters)
    context = _context(job, events, stop, log)
    if not executor.is_resumable:
        _refuse_to_begin_again(context.state)
    result = executor.run(task, context)
    outcome = result_files.outcome_of(result.outcome)
    files = result_files.seal(context.output, result.files, _manifest_head(job))
    lines = [
        {
            **asdict(file),
            "is_required": file.name not in result.best_effort,
            "is_model": file.name in result.as_models,
        }
        for file in files
    ]
    return {"status": "done", "files": lines, "outcome": outcome}


def _context(job: Order, events: Events, stop: StopFlag, log: FilteringBoundLogger) -> Context:
    # What an earlier attempt left half written; what is worth keeping is in *state*.
    remove(job.output)
    job.output.mkdir(parents=True)
    job.state.mkdir(parents=True, exist_ok=True)
    return Context(
        job_id=job.job_id,
        attempt=job.attempt,
        input_file=job.input_file,
        input_name=job.input_name,
        output=job.output,
        state=job.state,
        models={model.name: model for model in job.models},
        barred_models=job.barred_models,
        data_roots=job.data_roots,
        spend_limits=job.spend_limits,
        answers_kept=job.answers_kept,
        report=events.progress,
        report_pace=events.pace,
        tell_iteration=events.iteration,
        stop=stop,
        log=log,
        commands=job.commands,
        code_roots=job.code_roots,
        sandbox=job.sandbox,
        trace=trace_context.parse(job.traceparent),
        tally=events.tally,
    )


def _manifest_head(job: Order) -> dict[str, Any]:
    head: dict[str, Any] = {
        "job_id": job.job_id,
        "attempt": job.attempt,
        "job_type": job.job_type,
        "executor_version": job.function.module_version if job.function else registry.version_of(job.job_type),
        "input": None,
        **({"is_function": True} if job.function else {}),
    }
    if job.input_file is not None:
        with job.input_file.open("rb") as file:
            facts = result_files.digest(file, job.input_name or job.input_file.name)
        head["input"] = {"name": facts.name, "sha256": facts.sha256, "size_bytes": facts.size_bytes}
    return head


def _refuse_to_begin_again(state: Path) -> None:
    """Raise ExecutionFailed if the work has begun before; it is on disk when this returns that now it has."""
    begun = state / _BEGUN
    if begun.exists():
        raise ExecutionFailed("interrupted, and not to be done twice", reason="agent_restarted")
    durable.write(begun, b"")


def _failed(job: Order, reason: str, message: str) -> dict[str, Any]:
    text = job.redact(message).encode("utf-8", errors="replace").decode()
    return {"status": "failed", "reason": reason, "message": text[:_MAX_MESSAGE]}


class _Lossy:
    """A log that a full disk does not take is lost, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _logger() -> FilteringBoundLogger:
    # It quotes what a broken server sent, which may be anything, a row of the user's too.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -P -m overmind_executors.process.child", description="Do one job."
    )
    parser.add_argument("--events-fd", type=int, required=True, help="an open descriptor for events")
    parser.add_argument("--parent", type=int, required=True, help="the process that this one must not outlive")
    parser.add_argument("--nice", type=int, default=0, help="added to its priority")
    return parser


def leave(code: int) -> NoReturn:
    """End without waiting for threads, which may hang in a call that nobody needs any more."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
