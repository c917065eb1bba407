"""What this process was started with and what a job may see of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

_SECRET: Final = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)


@dataclass(frozen=True)
class ServiceManager:
    """
    What systemd asks of a service of `Type=notify`.

    Attributes:
        notify_socket: where to send `READY=1` and the like; a leading `@` stands for NUL. None without systemd.
        watchdog_s: how old the last `WATCHDOG=1` may grow; None without a watchdog.
    """

    notify_socket: str | None
    watchdog_s: float | None


def service_manager(environ: Mapping[str, str] | None = None) -> ServiceManager:
    """The service manager that started this process, as far as its environment tells."""
    environ = os.environ if environ is None else environ
    digits = environ.get("WATCHDOG_USEC", "")
    is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    watchdog_s = int(digits) / 1e6 if digits.isdecimal() and int(digits) > 0 and is_for_us else None
    return ServiceManager(environ.get("NOTIFY_SOCKET") or None, watchdog_s)


def is_journal(stream: TextIO | None, environ: Mapping[str, str] | None = None) -> bool:
    """Whether *stream* leads straight into systemd's journal, as `JOURNAL_STREAM` says."""
    named = (os.environ if environ is None else environ).get("JOURNAL_STREAM", "")
    if stream is None or not named:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def job_environment(allowed: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    The variables of this process that jobs may see; what else a job gets is the launcher's.

    Args:
        allowed: `agent.job_env`; a name that is not set here is not set there.
    """
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in allowed if name in environ}


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The values of those variables whose names say that they are secret."""
    return [value for name, value in environment.items() if _SECRET.search(name)]
