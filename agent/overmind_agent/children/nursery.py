"""
Children that begin at once: our end of `overmind_executors.process.nursery`, which forks them, ready to work.

Whatever goes wrong there, the answer is None and the job is started in the slow way; the nursery is started anew
when it is asked again.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from overmind_agent.children import processes
from overmind_agent.ports import Clock
from overmind_executors.process import own_environment

# A fork takes milliseconds; a nursery that takes so long is given up.
ANSWER_S: Final = 5.0
# Between two starts of one that fails: each costs what it is there to save.
AGAIN_AFTER_S: Final = 10.0
MESSAGE_BYTES: Final = 64 * 1024


class Nursery:
    """
    One process of ours that forks the jobs' processes. Safe to use from any thread; it must be a sub-reaper's.

    Args:
        environment: what the nursery itself is started with, as every job gets it.
        owner: see ChildSettings; the nursery has a mark as well, so that one that outlived its agent is found.
        job_types: their modules are imported beforehand, unless that leaves threads behind.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        owner: str,
        job_types: Sequence[str],
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._environment = {**environment, processes.MARK: f"{owner}#nursery", **own_environment.room()}
        self._job_types = list(job_types)
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._not_before_s = -math.inf

    @property
    def pid(self) -> int | None:
        """Of the process that is at work, None when there is none."""
        with self._lock:
            return self._running.pid if self._running else None

    def start(self) -> None:
        """Begin to make ready; the first children may be asked for before that."""
        with self._lock:
            self._start()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Whether it forks children, after waiting for that for at most *timeout_s* seconds."""
        ends_at_s = self._clock.now_s() + timeout_s
        with self._lock:
            while (ready := self._ready(ends_at_s - self._clock.now_s())) is None:
                if self._clock.now_s() >= ends_at_s:
                    break
        return ready is not None

    def close(self) -> None:
        """End it; the children that it has forked live on."""
        with self._lock:
            self._not_before_s = math.inf
            self._give_up()

    def fork(
        self, environment: Mapping[str, str], folder: Path, *, nice: int, descriptors: Sequence[int]
    ) -> processes.Adopted | None:
        """
        A child that has begun, None when there is none to be had now.

        Args:
            environment: all of the child's.
            descriptors: its standard input, its log, and where it writes events; ours to close.
        """
        request = {"environment": dict(environment), "folder": str(folder), "nice": nice}
        with self._lock:
            try:
                if (running := self._ready()) is not None:
                    return running.fork(json.dumps(request).encode(), descriptors)
            except Refused as error:
                self._log.warning("nursery.refused", error=str(error))
            except (OSError, ValueError, KeyError) as error:
                self._log.warning("nursery.failed", error=str(error))
                self._give_up()
            return None

    def _start(self) -> None:
        """Without one children are started one by one: nothing that keeps it from starting ends the daemon."""
        self._not_before_s = self._clock.now_s() + AGAIN_AFTER_S
        try:
            self._running = _Running(self._environment, self._job_types)
        except OSError as error:
            self._log.warning("nursery.failed", error=str(error))

    def _ready(self, wait_s: float = 0.0) -> _Running | None:
        """The one that forks, None when it says nothing of the kind in that time."""
        if self._running is None and self._clock.now_s() >= self._not_before_s:
            self._start()
        if (running := self._running) is None:
            return None
        while not running.is_ready:
            if (said := running.listen(max(0.0, wait_s))) is None:
                return None
            running.loading = str(said.get("preloading", running.loading))
            running.is_ready = "ready" in said
            if not said or "spoiled" in said:
                self._leave_out(running.loading, str(said.get("why", "the nursery died of it")))
                return None
        return running

    def _leave_out(self, job_type: str, why: str) -> None:
        """Begin again without the module after which nobody may fork: each of its jobs imports it by itself."""
        self._log.warning("nursery.spoiled", job_type=job_type, why=why)
        self._give_up()
        if job_type in self._job_types:
            self._job_types.remove(job_type)
            self._start()

    def _give_up(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None


class Refused(Exception):
    """The nursery is well, but will not fork this child."""


class _Running:
    """The process of a nursery and the channel to it."""

    def __init__(self, environment: Mapping[str, str], job_types: Sequence[str]) -> None:
        self.is_ready = False
        self.loading = ""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "overmind_executors.process.nursery"]
        command += ["--channel", str(theirs.fileno()), "--parent", str(os.getpid())]
        for job_type in job_types:
            command += ["--preload", job_type]
        with theirs, ExitStack() as on_failure:
            on_failure.callback(self._channel.close)
            self._process = processes.start(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            on_failure.pop_all()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def listen(self, timeout_s: float) -> dict[str, Any] | None:
        """What it says next, empty when it has ended; None when it says nothing in that time."""
        if not select.select([self._channel], [], [], timeout_s)[0]:
            return None
        raw = self._channel.recv(MESSAGE_BYTES)
        said: dict[str, Any] = json.loads(raw) if raw else {}
        return said

    def fork(self, request: bytes, descriptors: Sequence[int]) -> processes.Adopted:
        """
        A child that has begun.

        Raises:
            Refused, OSError, ValueError, KeyError: there is none, and none will come of this request.
        """
        gate_in_child, gate = os.pipe()
        with os.fdopen(gate, "wb", buffering=0) as opens:
            try:
                socket.send_fds(self._channel, [request], [*descriptors, gate_in_child])
            finally:
                os.close(gate_in_child)
            if not (said := self.listen(ANSWER_S)):
                raise ChildProcessError("the nursery does not answer")
            if "refused" in said:
                raise Refused(said["refused"])
            child = processes.adopt(int(said["pid"]))
            try:
                opens.write(b"!")
            except OSError:
                processes.let_go(child)
                raise
        return child

    def end(self) -> None:
        """Kill it. What it was about to fork finds its gate closed, and ends."""
        self._channel.close()
        processes.let_go(self._process)
