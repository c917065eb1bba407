"""The child process of a job as its parent sees it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLEAN_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def order_of(**changes: Any) -> bytes:
    """An order as the agent writes it; what differs is given by name."""
    fields: dict[str, Any] = {
        "job_id": "job-1",
        "attempt": 1,
        "job_type": "inference",
        "parameters": {},
        "input_file": None,
        "input_name": None,
        "output": "output",
        "state": "state",
        "models": [],
        "data_roots": [],
    }
    return json.dumps({**fields, **changes}).encode()


class Child:
    """A started child. Its events come in a queue, its log is the file `job.log` of its workspace."""

    def __init__(
        self,
        folder: Path,
        *,
        parent: int | None = None,
        python_path: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "result.json").unlink(missing_ok=True)
        reader, writer = os.pipe()
        command = [sys.executable, "-P", "-m", "overmind_executors.process.child"]
        command += ["--events-fd", str(writer), "--parent", str(parent or os.getpid())]
        path = {"PYTHONPATH": str(python_path)} if python_path else {}
        with (folder / "job.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**CLEAN_ENVIRONMENT, **path, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
            )
        os.close(writer)
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read_events, args=(reader,), daemon=True)
        self._reader.start()

    def _read_events(self, descriptor: int) -> None:
        with os.fdopen(descriptor) as lines:
            for line in lines:
                self._events.put(json.loads(line))
        self._events.put(None)

    def event(self, timeout_s: float = 20) -> dict[str, Any] | None:
        """The next event, None at the end of them."""
        return self._events.get(timeout=timeout_s)

    def events(self) -> list[dict[str, Any]]:
        """All events that are left; returns when the child has ended."""
        return list(iter(self.event, None))

    def order(self, **changes: Any) -> Child:
        """Send an order."""
        return self.send(order_of(**changes))

    def send(self, raw: bytes) -> Child:
        """Send *raw* and the end of the file."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(raw)
        stdin.close()
        return self

    def wait(self, timeout_s: float = 30) -> int:
        """The exit code."""
        return self.process.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def result(self, timeout_s: float = 30) -> dict[str, Any]:
        """What `result.json` says, once the child has ended well."""
        assert 0 == self.wait(timeout_s), self.log()
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return found

    def log(self) -> str:
        """The job's log."""
        return (self.folder / "job.log").read_text()

    def close(self) -> None:
        """Kill it if it lives."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self._reader.join(5)
