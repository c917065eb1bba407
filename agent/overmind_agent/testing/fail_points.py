"""
Fail-points: a process is killed, or its disk or network fails, at a numbered boundary of what it does.

```
agent = Popen(command, env={**environment, **fail_points.environment("17=kill")})
agent = Popen(command, env={**environment, **fail_points.environment("17=ENOSPC", log=folder / "boundaries")})
agent = Popen(command, env={**environment, **fail_points.environment("17=EIO/3")})  # and all others for 3 seconds
```

A boundary is the moment before something that others can see or that survives: a commit of SQLite, a file opened
for writing, a rename, a removal, a new folder, a request on the wire, a process that is started. They are counted
from 1. A process that is killed before each of them in turn has been killed in each of its states.

The program under test knows nothing of this: Python's own audit events tell of everything but commits, and those
pass through a connection class of ours. The variable is read by `armed/sitecustomize.py` alone, which Python finds
only when its folder is on `PYTHONPATH`: `environment` puts it there, and nothing else does. This module needs the
standard library alone, so that a process which carries it starts as quickly as another.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PLAN: Final = "OVERMIND_FAIL_POINTS"
LOG: Final = "OVERMIND_FAIL_POINTS_LOG"
WHOSE: Final = "OVERMIND_FAIL_POINTS_WHOSE"
FORKED: Final = "forked"
ARMED: Final = Path(__file__).with_name("armed")
KILL: Final = "kill"

_FAR_OFF: Final = 300
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NOT_ON_DISK: Final = ("/dev/", "/proc/", "/sys/")
# Python's audit events that are boundaries; each has the path, or what else tells one from another, at that place.
_EVENTS: Final = {
    "http.client.send": 1,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 1,
    "os.rmdir": 0,
    "subprocess.Popen": 0,
}


@dataclass(frozen=True)
class Plan:
    """
    What happens where.

    Attributes:
        at: the number of the boundary; 0 for none, to count only.
        action: `kill`, or the name of an errno such as `ENOSPC`.
        lasting_s: for how many seconds all boundaries fail, from that one on; 0 for that one alone.
    """

    at: int
    action: str
    lasting_s: float = 0.0

    @classmethod
    def read(cls, text: str) -> Plan:
        """
        The plan that `17=kill`, `17=EIO` or `17=EIO/3` is.

        Raises:
            ValueError: it is none.
        """
        at, _, what = text.partition("=")
        action, _, lasting_s = what.partition("/")
        if action != KILL and not hasattr(errno, action):
            raise ValueError(f"a plan is a number, = and kill or the name of an errno, not {text!r}")
        return cls(int(at), action, float(lasting_s or 0))


def environment(plan: str, *, whose: str = "agent", log: Path | None = None) -> dict[str, str]:
    """
    The variables with which a process is started armed.

    Args:
        plan: such as `17=kill`; `0=kill` counts only.
        whose: `agent` for the process itself, `job` for the children that it runs jobs in; for those the names of
            all these variables have to be in `agent.job_env` as well.
        log: a file to which each boundary is added as a line.
    """
    Plan.read(plan)
    found = {"PYTHONPATH": str(ARMED), "PYTHONDONTWRITEBYTECODE": "1", PLAN: plan, WHOSE: whose}
    return found | ({LOG: str(log)} if log else {})


def nursery_environment() -> dict[str, str]:
    """
    The variables with which a nursery of job processes is started whose children can be armed.

    A child that it forks is armed from its first moment if its own environment has what `environment` makes; any
    other one, and the nursery itself, is not.
    """
    return {"PYTHONPATH": str(ARMED), "PYTHONDONTWRITEBYTECODE": "1", WHOSE: FORKED}


def arm(plan: Plan, log: Path | None = None) -> None:
    """Arm this process. There is no way back."""
    gate = _Gate(plan, _opened(log) if log else None)
    sys.addaudithook(gate.on_event)
    sqlite3.connect = _connecting(gate)


def _opened(log: Path) -> int:
    """A descriptor beyond those that a process closes which was forked, and begins a work of its own."""
    found = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, _FAR_OFF)
    finally:
        os.close(found)


class _Gate:
    """Counts the boundaries of this process; at one of them it acts."""

    def __init__(self, plan: Plan, log: int | None) -> None:
        self._plan = plan
        self._log = log
        self._passed = 0
        self._ends_at_s = -math.inf
        self._lock = threading.Lock()

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One of Python's audit events."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & _WRITING:
                name = os.fsdecode(path)
                if not name.startswith(_NOT_ON_DISK):
                    self._fail_at(f"open {name}")
        elif (place := _EVENTS.get(event)) is not None:
            self._fail_at(f"{event} {_short(arguments[place])}")

    def pass_commit(self, statement: str, commit: Callable[[], Any]) -> Any:
        """*commit*, before which this process may be killed and during which its disk may fail."""
        if not self._is_reached(statement):
            return commit()
        with self._lock, _no_room():  # the limit is that of all threads, and of what they start: they wait
            return commit()

    def _fail_at(self, what: str) -> None:
        if self._is_reached(what):
            number = getattr(errno, self._plan.action)
            raise OSError(number, os.strerror(number))

    def _is_reached(self, what: str) -> bool:
        with self._lock:
            self._passed += 1
            number = self._passed
            if self._log is not None:
                os.write(self._log, f"{number} {what}\n".encode(errors="replace"))
            if number == self._plan.at:
                self._ends_at_s = time.monotonic() + self._plan.lasting_s
        if number != self._plan.at and time.monotonic() >= self._ends_at_s:
            return False
        if self._plan.action == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # it takes a moment, in which nothing more may happen
        return True


class _no_room:  # noqa: N801 - used as a function is
    """While it lasts, no file of this process can grow: a write fails as it does on a broken or full disk."""

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def __exit__(self, *_raised: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def _connecting(gate: _Gate) -> Callable[..., Any]:
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        """Its commits are boundaries."""

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            """As in sqlite3."""
            if statement.strip().upper() != "COMMIT":
                return super().execute(statement, *values)
            cursor: sqlite3.Cursor = gate.pass_commit("commit", lambda: sqlite3.Connection.execute(self, statement))
            return cursor

        def commit(self) -> None:
            """As in sqlite3."""
            gate.pass_commit("commit", lambda: sqlite3.Connection.commit(self))

    def connect_counted(*arguments: Any, **options: Any) -> Any:
        return connect(*arguments, **{"factory": Connection, **options})

    return connect_counted


def _short(thing: object) -> str:
    if isinstance(thing, bytes):
        thing = thing[:200].decode(errors="replace")
    return " ".join(str(thing).partition("\r\n")[0].split())[:200]
