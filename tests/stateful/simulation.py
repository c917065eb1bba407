"""
A schedule: agents over one control plane and one clock, in one thread; everything that happens follows from a seed.

After a power cut, of what the journal has written only what was synced is sure to be there: the rest of its log is
kept, lost, cut anywhere or torn, as it falls.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final

import structlog
from trouble import KINDS, VERBS, Killed, Work, trouble

from daemon_parts import Daemon, FakeLauncher
from overmind_agent.errors import OvermindAgentError
from overmind_agent.journal.file import Synced
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.testing import FakeServer, VirtualClock
from overmind_agent.testing.fake_server import FakeJob
from overmind_executors.contract import InvalidParameters, Problem

LEASE_S: Final = 60.0
STEPS: Final = 14
MOST_JOBS: Final = 2
MOST_AGENTS: Final = 2
ROUNDS: Final = 40  # of quiet, until everything must have ended
ENOUGH_S: Final = 30.0  # of a lease, to go on with what it is for
PAGE_BYTES: Final = 4096
FULL: Final = 2
# What the control plane says to an agent that has told it one thing and then another.
CONTRADICTED: Final = ("said with other words", "expected_sequence")


class WatchedJournal(SqliteJournal):
    """Knows how much of its log is on disk: what SQLite syncs at a commit, and what the journal itself does."""

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(path.name + "-wal")
        self.on_disk_bytes = 0
        super().__init__(path, sync=self._on_sync)
        self._on_sync(self._log)

    def _on_sync(self, _path: Path) -> None:
        self.on_disk_bytes = self._log.stat().st_size if self._log.exists() else 0

    @contextmanager
    def _write(self, synced: Synced = Synced.NOW) -> Iterator[Connection]:
        with super()._write(synced) as db:
            yield db
        if self._db.execute("PRAGMA synchronous").fetchone()[0] == FULL:
            self._on_sync(self._log)

    def leave_behind(self, folder: Path, draw: random.Random | None) -> int:
        """Copy to *folder* what a kill leaves; with *draw*, what a power cut does. How many bytes that took."""
        shutil.copyfile(self._path, folder / self._path.name)
        if not self._log.exists():
            return 0
        written = self._log.read_bytes()
        kept = written if draw is None else _torn(written, min(self.on_disk_bytes, len(written)), draw)
        (folder / self._log.name).write_bytes(kept)
        return sum(before != after for before, after in zip_longest(written, kept)) if kept != written else 0


def _torn(written: bytes, on_disk: int, draw: random.Random) -> bytes:
    """*written*, of which what lies behind *on_disk* may be lost, shortened, or missing in parts."""
    safe, rest = written[:on_disk], written[on_disk:]
    match draw.choice(("lost", "cut", "torn", "kept")):
        case "lost":
            return safe
        case "cut":
            return safe + rest[: draw.randint(0, len(rest))]
        case "torn":
            pages = [rest[at : at + PAGE_BYTES] for at in range(0, len(rest), PAGE_BYTES)]
            return safe + b"".join(page if draw.random() < 0.5 else bytes(len(page)) for page in pages)
    return written


class Host:
    """
    One agent, and the folder that outlives its starts.

    Attributes:
        refuses_next: whether it will not run the next job that it checks; refused: how often that was so.
        lost_bytes: what power cuts took from its journal.
    """

    def __init__(self, folder: Path, server: FakeServer, clock: VirtualClock) -> None:
        self.work = Work()
        self.refuses_next = False
        self.refused = 0
        self.lost_bytes = 0
        self._server, self._clock = server, clock
        self._folder, self._starts = folder, 0
        self.daemon = self._start()

    def end(self, draw: random.Random | None) -> None:
        """The next start, after a kill; after a power cut where there is a *draw*."""
        before = self._here
        journal = self.daemon.journal
        assert isinstance(journal, WatchedJournal)
        self._starts += 1
        self._here.mkdir(parents=True)
        self.lost_bytes += journal.leave_behind(self._here, draw)
        self.daemon.close()
        (before / "jobs").rename(self._here / "jobs")
        self.daemon = self._start()

    @property
    def _here(self) -> Path:
        return self._folder / str(self._starts)

    def _start(self) -> Daemon:
        self._here.mkdir(parents=True, exist_ok=True)
        launcher = FakeLauncher(self.work)
        return Daemon(
            self._here,
            self._server,
            self._clock,
            launcher=launcher,
            validate=self._validate,
            open_journal=WatchedJournal,
        )

    def _validate(self, _job_type: str, _parameters: Mapping[str, Any]) -> None:
        if self.refuses_next:
            self.refuses_next, self.refused = False, self.refused + 1
            raise InvalidParameters(Problem("a", "is not what this host allows now"))


class Simulation:
    """
    One schedule.

    Attributes:
        trace: what was done and what each job was afterwards; the same for the same seed.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        random.seed(seed)  # back-offs draw from there
        self._draw = random.Random(seed)
        self._clock = VirtualClock()
        self._server = FakeServer(self._clock, lease_s=LEASE_S)
        self._server.grants = self._server.takes_enclosed = seed % 3 > 0  # else an older one
        self._hosts = [
            Host(folder / str(number), self._server, self._clock)
            for number in range(self._draw.randint(1, MOST_AGENTS))
        ]
        self._jobs: list[str] = []
        self.trace: list[tuple[str, float, tuple[str, ...]]] = []

    @property
    def lost_bytes(self) -> int:
        """What power cuts took from journals."""
        return sum(host.lost_bytes for host in self._hosts)

    def run(self) -> Iterator[str]:
        """All of it, to the end; what was violated."""
        self._submit(self._hosts[0])
        for _ in range(STEPS):
            name = self._draw.choice(ACTS)
            self._do(name, self._draw.choice(self._hosts))
            yield from self._violations()
        yield from self._calm()
        for host in self._hosts:
            host.daemon.close()

    def _do(self, name: str, host: Host) -> None:
        try:
            getattr(self, f"_{name}")(host)
        except OvermindAgentError:
            name += " failed"  # its slot would wait and try again
        except Killed:
            name += " was killed"
            host.end(None)
        statuses = tuple(self._server.jobs[job_id].status.value for job_id in self._jobs)
        self.trace.append((name, round(self._clock.now_s(), 6), statuses))

    # ------------------------------------------------------------------------------------ what happens

    def _submit(self, _host: Host) -> None:
        if len(self._jobs) < MOST_JOBS:
            content = b"rows" if self._draw.random() < 0.5 else None
            self._jobs.append(self._server.submit("inference", {"a": 1}, input_bytes=content))

    def _cancel(self, _host: Host) -> None:
        job_id = self._draw.choice(self._jobs)
        if not LIFECYCLE[self._server.jobs[job_id].status].is_final:
            self._server.cancel(job_id)

    def _expire(self, _host: Host) -> None:
        job_id = self._draw.choice(self._jobs)
        if LIFECYCLE[self._server.jobs[job_id].status].is_held:
            self._server.expire(job_id)

    def _script(self, _host: Host) -> None:
        verb = self._draw.choice(VERBS)
        self._server.script(
            verb, *(trouble(self._draw.choice(KINDS), verb) for _ in range(self._draw.randint(1, 3)))
        )

    def _kill_the_next_work(self, host: Host) -> None:
        host.work.is_killed_next = True

    def _refuse_next(self, host: Host) -> None:
        host.refuses_next = True

    def _let_time_pass(self, _host: Host) -> None:
        self._clock.advance(self._draw.choice((1, 20, 70)))

    def _step(self, host: Host) -> None:
        host.daemon.worker.step(wait_s=0)

    def _deliver(self, host: Host) -> None:
        host.daemon.delivery.deliver()

    def _beat(self, host: Host) -> None:
        host.daemon.heartbeat.beat()

    def _kill(self, host: Host) -> None:
        host.end(None)

    def _cut_the_power(self, host: Host) -> None:
        host.end(self._draw)

    # ------------------------------------------------------------------------------------ what must hold

    def _violations(self) -> Iterator[str]:
        for host in self._hosts:
            if again := host.work.done_again():
                yield f"done again: {again}"
            for parked in host.daemon.journal.parked():
                if any(word in parked.why for word in CONTRADICTED):
                    yield f"{parked.update.status} of attempt {parked.update.attempt}: {parked.why}"
        for job_id, job in self._server.jobs.items():
            if job.status is Status.COMPLETED and list(job.files.values()) != [job_id.encode()]:
                yield f"{job_id} is completed with {job.files}"
            if job.status is Status.FAILED and not (job.reason == "invalid_input" and any(self._refused())):
                yield f"{job_id} failed, which nothing here is a reason for: {job.updates[-1]}"

    def _refused(self) -> Iterator[int]:
        yield from (host.refused for host in self._hosts)

    def _calm(self) -> Iterator[str]:
        """Nothing is disturbed any more, and everything ends; what is held is gone on with as the same attempt."""
        self._server.calm()
        held = {job_id: job.attempt for job_id, job in self._server.jobs.items() if self._is_held(job)}
        for host in self._hosts:
            host.work.is_killed_next = host.refuses_next = False
        for _ in range(ROUNDS):
            for host in self._hosts:
                self._do("step", host)
                self._do("deliver", host)
            if not (left := list(self._left())):
                break
            self._clock.advance(7)
        yield from left
        yield from self._violations()
        for job_id, attempt in held.items():
            if self._server.jobs[job_id].attempt != attempt:
                yield f"nobody knew of attempt {attempt}: its lease ran out"

    def _is_held(self, job: FakeJob) -> bool:
        ends_at_s = job.lease_ends_at_s or 0.0
        return LIFECYCLE[job.status].is_held and ends_at_s - self._clock.now_s() > ENOUGH_S

    def _left(self) -> Iterator[str]:
        for job in self._server.jobs.values():
            if not LIFECYCLE[job.status].is_final:
                yield f"a job is {job.status} at the end"
        for host in self._hosts:
            journal = host.daemon.journal
            waiting = [*journal.undelivered(), *journal.held(), *journal.intended()]
            yield from (f"waits at the end: {one}" for one in waiting)


# How often each act is among all.
_WEIGHTS: Final = {
    "submit": 1,
    "cancel": 1,
    "expire": 1,
    "script": 4,
    "kill_the_next_work": 1,
    "refuse_next": 1,
    "let_time_pass": 2,
    "step": 5,
    "deliver": 4,
    "beat": 2,
    "kill": 1,
    "cut_the_power": 2,
}
ACTS: Final = [name for name, weight in _WEIGHTS.items() for _ in range(weight)]


@dataclass(frozen=True)
class Ran:
    """What came of a schedule: what was violated, its trace, and what power cuts took from journals."""

    violations: list[str]
    trace: list[tuple[str, float, tuple[str, ...]]]
    lost_bytes: int


def simulate(seed: int, folder: Path) -> Ran:
    """The schedule of *seed*; *folder* is made and removed."""
    structlog.configure(processors=[lambda *_: ""], logger_factory=structlog.ReturnLoggerFactory())
    simulation = Simulation(seed, folder)
    try:
        violations = list(simulation.run())
        return Ran(violations, simulation.trace, simulation.lost_bytes)
    finally:
        structlog.reset_defaults()
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
