"""
The health report in the state folder: for checks that must be quick, need no port, and must not trust a thread.

The main thread writes it at every turn, in place and into blocks that it had from the start, so that a full disk
does not make a healthy daemon look dead. Who reads it goes by its age: a daemon that is frozen writes nothing.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from overmind_agent.telemetry.health import Report

NAME: Final = "health.json"
SIZE_BYTES: Final = 4096
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class HealthFile:
    """
    The file, open for writing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / NAME
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with suppress(OSError):  # on a full disk a report may not fit, which is no reason not to work
            os.posix_fallocate(self._file, 0, SIZE_BYTES)
        os.ftruncate(self._file, SIZE_BYTES)
        self._boot_id = boot_id()

    def write(self, report: Report) -> None:
        """Put *report* there. A disk that does not take it leaves the one before, which grows old."""
        document = {**report.document(), "boot_id": self._boot_id, "at_s": time.monotonic()}
        text = json.dumps(document)
        if len(text) >= SIZE_BYTES:  # many loops with long stories: the codes are what counts
            document["reasons"] = [{"code": reason.code, "message": ""} for reason in report.reasons[:20]]
            text = json.dumps(document)
        with suppress(OSError):
            os.pwrite(self._file, text.encode().ljust(SIZE_BYTES - 1) + b"\n", 0)

    def close(self) -> None:
        """The daemon has ended in order: there is nothing to read any more."""
        with suppress(OSError):  # what is left says that its process is gone
            self._path.unlink()
        os.close(self._file)


def boot_id() -> str:
    """Which boot of the host this is; times of another one mean nothing."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read(state: Path) -> dict[str, Any]:
    """
    The report as it counts now: not live when there is none, or none that is young enough.

    The codes `not_running` and `report_old` come from here, since who has them cannot say so.
    """
    try:
        found: dict[str, Any] = json.loads((state / NAME).read_bytes()[:SIZE_BYTES])
        pid, at_s, good_for_s = int(found["pid"]), float(found.pop("at_s")), float(found.pop("good_for_s"))
        is_of_this_boot = found.pop("boot_id") == boot_id()
    except FileNotFoundError:
        return _dead("not_running", f"no daemon works on {state}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _dead("not_running", f"{state / NAME} cannot be read: {error}")
    if not (is_of_this_boot and _is_there(pid)):
        return _dead("not_running", f"process {pid}, which worked on {state}, is gone")
    age_s = time.monotonic() - at_s
    if age_s > good_for_s:
        return _dead("report_old", f"process {pid} has said nothing for {age_s:.0f} s")
    return found


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: it is there
        return True
    return True


def _dead(code: str, message: str) -> dict[str, Any]:
    return {"live": False, "ready": False, "reasons": [{"code": code, "message": message}]}
