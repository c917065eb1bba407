"""`overmind-agent run`: from the configuration to an exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from overmind_agent import __version__, tracing
from overmind_agent.command_line import exit_codes
from overmind_agent.command_line.display import watching
from overmind_agent.configuration import checked as configuration
from overmind_agent.configuration.keys import HostKeys
from overmind_agent.errors import (
    AuthError,
    ConfigError,
    ControlPlaneError,
    JournalError,
    ProtocolError,
    RejectedError,
    StateInUse,
)
from overmind_agent.held_jobs import HeldJob
from overmind_agent.jobs import Ended, NoJob, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.patience import Bounds
from overmind_agent.service import Outcome, Service
from overmind_agent.standing import Outside
from overmind_config import host, logs
from overmind_config.problems import SettingsError
from overmind_config.settings import Settings

EXIT_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (AuthError, exit_codes.NO_PERMISSION),
    (ControlPlaneError, exit_codes.UNAVAILABLE),
    (ProtocolError, exit_codes.UNAVAILABLE),
    (ConfigError, exit_codes.CONFIG),
    (StateInUse, exit_codes.CANT_CREATE),
    (JournalError, exit_codes.CANT_CREATE),
)
TOO_COMMON: Final = "a secret that is short or a common word is shown wherever it stands; take a longer one"
OUTCOMES: Final = {
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "canceled",
    Status.PENDING: "released",
}


def run(
    flags: Mapping[str, Any],
    *,
    config: Path | None,
    wait_s: float | None,
    job_id: str | None = None,
    bounds: Bounds | None = None,
) -> int:
    """
    Run the daemon, or some jobs, or one.

    Args:
        flags: settings from the command line, by dotted key.
        wait_s: for one job, how long to wait for it; None for more than one.
        job_id: the one job to run.
        bounds: where it ends by itself; None for the daemon, which does not.
    """

    def read() -> Settings:
        return configuration.read(flags, config)

    try:
        settings = read()
    except SettingsError as error:
        for problem in error.problems:
            _say(str(problem))
        return exit_codes.CONFIG
    try:
        if wait_s is not None:
            return _once(settings, read, wait_s, job_id)
        if bounds is not None:
            return _until(settings, read, bounds)
        with _logging(settings, sys.stdout) as told:
            outside = _outside(settings, lambda *_: None, told, read)
            Service(settings, outside, structlog.get_logger()).run()
        return exit_codes.OK
    except Exception as error:
        return _explain(error, lambda: configuration.token_place(flags, config))


def _until(settings: Settings, read: Callable[[], Settings], bounds: Bounds) -> int:
    with watching() as display, _logging(settings, sys.stderr) as told:
        service = Service(settings, _outside(settings, display.show, told, read), structlog.get_logger())
        outcomes = service.run_until(bounds)
    lines = [summary(outcome) for outcome in outcomes]
    words = Counter(line["outcome"] for line in lines)
    _print(json.dumps({"outcome": "done" if lines else "no_job", "counts": words, "jobs": lines}))
    return max((_exit_code(outcome) for outcome in outcomes), default=exit_codes.OK)


def _once(settings: Settings, read: Callable[[], Settings], wait_s: float, job_id: str | None) -> int:
    # The bar takes standard error over before the log does, so that the two share the terminal.
    with watching() as display, _logging(settings, sys.stderr) as told:
        service = Service(settings, _outside(settings, display.show, told, read), structlog.get_logger())
        outcome = service.once(wait_s=wait_s, job_id=job_id)
    _print(json.dumps(summary(outcome)))
    return _exit_code(outcome)


def _exit_code(outcome: Outcome) -> int:
    if isinstance(outcome.step, NoJob):
        return exit_codes.OK
    if outcome.fate == "waiting":
        return exit_codes.UNAVAILABLE
    is_done = outcome.step.status is Status.COMPLETED and outcome.fate == "delivered"
    return exit_codes.OK if is_done else exit_codes.JOB_FAILED


def summary(outcome: Outcome) -> dict[str, Any]:
    """The last line of `run --once`, for scripts."""
    step = outcome.step
    if isinstance(step, NoJob):
        return {"outcome": "no_job", "message": step.message}
    return {
        "outcome": _word(step, outcome.fate),
        "job_id": step.job_id,
        "job_type": step.job_type,
        "attempt": step.attempt,
        "reason": step.reason,
        "message": step.message,
        "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in step.files],
        "summary": dict(step.outcome),
        "phases_s": dict(step.phases_s),
        "delivered": outcome.fate == "delivered",
    }


def _word(step: Ended, fate: str) -> str:
    if step.status is None:
        return "interrupted" if step.reason == StopReason.AGENT_STOPPING else "lost"
    return "lost" if fate == "refused" else OUTCOMES[step.status]


@contextmanager
def _logging(settings: Settings, stream: TextIO) -> Iterator[logs.Logs]:
    known = {"agent": settings.agent.name, "agent_version": __version__}
    known["trace_id"] = tracing.THIS_PROCESS.trace_id  # of what is about no job
    configured = logs.configure(
        level=settings.logging.level,
        style=settings.logging.format,
        stream=stream,
        secrets=settings.secrets(),
        bound=known,
    )
    if refused := configured.redactor.refused:
        structlog.get_logger().warning("secret.not_masked", secrets=refused, hint=TOO_COMMON)
    try:
        yield configured
    finally:
        configured.close()


def _outside(
    settings: Settings,
    on_change: Callable[[HeldJob, Status], None],
    told: logs.Logs,
    read_again: Callable[[], Settings],
) -> Outside:
    redactor = told.redactor
    keys = HostKeys(settings, redactor.add)

    def environment_of(names: Sequence[str]) -> Mapping[str, str]:
        environment = host.job_environment(names)
        redactor.add(*host.secrets_in(environment))
        return environment

    def take(settings: Settings) -> None:
        keys.take(settings)
        told.set_level(settings.logging.level)

    manager = host.service_manager()
    return Outside(
        token=keys.token,
        model_key=keys.of_model,
        environment_of=environment_of,
        notify_socket=manager.notify_socket,
        watchdog_s=manager.watchdog_s,
        on_change=on_change,
        logs=told,
        read_again=read_again,
        take=take,
    )


def _explain(error: Exception, token_place: Callable[[], str]) -> int:
    """One line about *error*, a traceback if it is a bug of ours; returns the exit code."""
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            _say(_advice(error, token_place))
            return code
    traceback.print_exception(error)
    _say(f"this is a bug: {type(error).__name__}: {error}")
    return exit_codes.BUG


def _advice(error: Exception, token_place: Callable[[], str]) -> str:
    if isinstance(error, AuthError):
        place = token_place()
        return f"the control plane does not accept the token in {place} ({error}); put a valid one there"
    if isinstance(error, RejectedError):
        return f"control_plane.url answers, but not as a control plane does ({error}); is it the right address?"
    if isinstance(error, (ControlPlaneError, ProtocolError)):
        return f"the control plane cannot be reached ({error}); is control_plane.url right?"
    return str(error)


def _print(line: str) -> None:
    """The result of the command; what it was about is done, also when nobody takes the line."""
    try:
        print(line, flush=True)
    except OSError as error:
        _say(f"the summary could not be written: {error.strerror}")


def _say(text: str) -> None:
    print(f"overmind-agent: {text}", file=sys.stderr)
