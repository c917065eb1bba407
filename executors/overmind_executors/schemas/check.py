"""Whether values fit a JSON schema of a stranger's: asked of a child process, which a hostile schema may end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal

from overmind_executors import strict_json
from overmind_executors.schemas.child import READY, REFUSED

Verdict = Literal["fits", "does_not_fit", "schema_timeout", "schema_crash"]

# Honest values need microseconds.
CPU_S: Final = 0.5
# So many children are lost at most: from then on no value is looked at any more.
MOST_LOST: Final = 10
_COMMAND: Final = ("-P", "-m", "overmind_executors.schemas.child")


class SchemaNotUsable(ValueError):
    """The schema is none, or takes too long to read. The message says why."""


class NoSchemaLibrary(Exception):
    """jsonschema-rs is not installed."""


class SchemaCheck:
    """
    One schema. Safe from any thread; values are checked one after the other. The child ends with this object.

    Args:
        cpu_s: the limit of one answer, in seconds of processor time.

    Raises:
        NoSchemaLibrary: of `prepare` and `check`.
        SchemaNotUsable: of the same.
    """

    def __init__(
        self, schema: Mapping[str, Any] | bool, *, cpu_s: float = CPU_S, most_lost: int = MOST_LOST
    ) -> None:
        self._schema = strict_json.dumps(schema).encode() + b"\n"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, *_COMMAND, str(cpu_s)]
        self._most_lost = most_lost
        self._lost = 0
        self._last_lost: Verdict = "schema_timeout"

    def prepare(self) -> None:
        """Find out whether the schema can be used."""
        with self._lock:
            self._child()

    def check(self, value: Any) -> Verdict:
        """Whether *value* fits; or that the schema took more time or memory for it than it gets."""
        text = strict_json.dumps(value).encode() + b"\n"
        with self._lock:
            if self._lost >= self._most_lost:
                return self._last_lost
            answer = _ask(self._child(), text)
            if not answer:
                self._last_lost = self._bury()
                return self._last_lost
        return "fits" if answer == b"1" else "does_not_fit"

    def _child(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        if find_spec("jsonschema_rs") is None:
            raise NoSchemaLibrary
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process = process
        self._end = weakref.finalize(self, _end, process)
        said = _ask(process, self._schema)
        if said == READY:
            return process
        if said.startswith(REFUSED):
            self._end()
            self._process = None
            raise SchemaNotUsable(said.removeprefix(REFUSED).decode(errors="replace"))
        raise SchemaNotUsable(f"it takes too much time or memory to read ({self._bury()})")

    def _bury(self) -> Verdict:
        process, self._process = self._process, None
        self._lost += 1
        self._end()
        was_slow = process is not None and process.returncode == -signal.SIGPROF
        return "schema_timeout" if was_slow else "schema_crash"


def _ask(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """The child's answer without its line end; empty when the child is lost."""
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101 - likewise
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return process.stdout.readline().removesuffix(b"\n")
    except OSError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()  # it reads the end of its input; while it is at work its own limit ends it
