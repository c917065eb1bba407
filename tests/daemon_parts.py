"""The daemon without threads and processes: its rooms over a control plane in memory and a clock that is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from agent_parts import a_result_file
from overmind_agent.children.launcher import has_ended, read_result
from overmind_agent.delivery import Delivery
from overmind_agent.errors import AuthError, TransientError
from overmind_agent.files.lanes import Lanes
from overmind_agent.files.workspace import DiskWorkspaces
from overmind_agent.heartbeat import Heartbeat
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.host.admission import Admission
from overmind_agent.host.capacity import Capacity
from overmind_agent.host.size_limits import SizeLimits
from overmind_agent.host.time_limits import TimeLimits
from overmind_agent.interrupted import InterruptedWork
from overmind_agent.job_run import JobRun
from overmind_agent.jobs import Claim, Ended, NoJob, Progress, Result, StopReason
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.logs.job_log import JobLog
from overmind_agent.logs.shipping import LogShipping
from overmind_agent.ports import Workspace
from overmind_agent.signing.policy import Signatures
from overmind_agent.testing import FakeControlPlane, FakeServer, VirtualClock
from overmind_agent.worker import Worker
from overmind_config.redaction import Redactor
from overmind_executors import strict_json

# What this host knows that nobody else may.
SECRET = "hunter22-hunter22"
REDACTOR = Redactor([SECRET])

Work = Callable[[Workspace], Result]


def down(verb: str = "any") -> TransientError:
    """The control plane does not answer."""
    return TransientError(f"{verb}: connection refused", verb=verb)


def unauthorized(verb: str = "any") -> AuthError:
    """The token is not accepted."""
    return AuthError(f"{verb}: 401", verb=verb, http_status=401)


def two_files(workspace: Workspace) -> Result:
    """Work that goes well."""
    files = (
        a_result_file(workspace.output, "output.jsonl", b'{"row": 1}\n'),
        a_result_file(workspace.output, "summary.json", b'{"mean": 0.5}\n'),
    )
    return Result(files, {"mean": 0.5})


class FakeLauncher:
    """
    Fills the Launcher port: does *work* in this process and leaves its result where a child leaves it.

    Attributes:
        runs: how often work was begun.
        seen: parameters and input of each run.
    """

    def __init__(
        self, work: Work = two_files, *, step_name: str = "rows", steps: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.steps = steps
        self.work = work
        self.step_name = step_name
        self.runs = 0
        self.seen: list[tuple[Mapping[str, Any], bytes | None]] = []

    def run(
        self,
        claim: Claim,
        parameters: Mapping[str, Any],
        workspace: Workspace,
        *,
        on_progress: Callable[[Progress], None],
        on_iteration: Callable[[Mapping[str, Any]], None],
        stop_reason: Callable[[], StopReason | None],
    ) -> Result:
        """See Launcher."""
        if not has_ended(workspace):
            self.runs += 1
            self.seen.append((parameters, workspace.input_file.read_bytes() if workspace.input_name else None))
            workspace.log.write_bytes(b"working\n")
            on_progress(Progress(1, 2, self.step_name))
            for step in self.steps:
                on_iteration(step)
            result = self.work(workspace)
            files = [{**asdict(file), "path": str(file.path)} for file in result.files]
            told = {"status": "done", "files": files, "outcome": dict(result.outcome)}
            workspace.result.write_text(strict_json.dumps(told))
        return read_result(workspace)


class InlineLogs(LogShipping):
    """Ships at once, in the thread that has something to ship."""

    def wake(self) -> None:
        """There is something to look at."""
        while self.ship():
            pass


@dataclass
class Daemon:
    """
    One start of the daemon over *folder*. `again` is the next start, after a crash or an end.

    Attributes:
        fatal: the errors after which it could not go on.
        seen: what it showed, in order.
    """

    folder: Path
    server: FakeServer
    clock: VirtualClock
    launcher: FakeLauncher = field(default_factory=FakeLauncher)
    validate: Callable[[str, Mapping[str, Any]], object] = lambda _job_type, _parameters: None
    slots: int = 1
    weights: Mapping[str, int] = field(default_factory=dict)
    job_types: Sequence[str] = ("inference",)
    refusal: Callable[[], str | None] = lambda: None
    limits: TimeLimits = field(default_factory=TimeLimits)
    sizes: SizeLimits = field(default_factory=SizeLimits)
    signatures: Signatures = field(default_factory=Signatures)
    projects: Sequence[str] | None = None
    open_journal: Callable[[Path], SqliteJournal] = SqliteJournal

    def __post_init__(self) -> None:
        self.log: Any = structlog.get_logger()
        self.plane = FakeControlPlane(self.server)
        self.journal = self.open_journal(self.folder / "journal.sqlite")
        self.plane.register(self.journal.agent_id())
        self.journal.remember_agent(self.plane.agent_id or "")
        self.workspaces = DiskWorkspaces(self.folder / "jobs")
        self.held_jobs = HeldJobs()
        self.held_jobs.keep(self.journal.leased(), self.clock)
        self.admission = Admission({"disk": self.refusal})
        self.capacity = Capacity(self.slots, self.weights, self.clock)
        self.draining = threading.Event()
        self.interrupted = InterruptedWork([*self.journal.held(), *self.journal.intended()])
        self.fatal: list[BaseException] = []
        self.drains: list[str] = []
        self.seen: list[Status] = []
        self.server.calls.clear()
        self.logs = InlineLogs(
            control_plane=self.plane,
            open_log=lambda job_id: JobLog(self.workspaces.log(job_id), REDACTOR),
            ledger=self.journal,
            clock=self.clock,
            log=self.log,
        )
        self.job_run = JobRun(
            control_plane=self.plane,
            journal=self.journal,
            launcher=self.launcher,
            workspaces=self.workspaces,
            logs=self.logs,
            lanes=Lanes(lambda: self.plane, self.clock, number=1),
            clock=self.clock,
            validate=self.validate,
            limits=self.limits,
            sizes=self.sizes,
            signatures=self.signatures,
            on_change=lambda _held, status: self.seen.append(status),
            redactor=REDACTOR,
            log=self.log,
        )
        self.worker = self.another_worker()
        self.delivery = Delivery(
            control_plane=self.plane,
            outbox=self.journal,
            held_jobs=self.held_jobs,
            on_refused=self.fatal.append,
            clock=self.clock,
            log=self.log,
        )
        self.heartbeat = Heartbeat(
            control_plane=self.plane,
            held_jobs=self.held_jobs,
            admission=self.admission,
            interval_s=10.0,
            is_draining=self.draining.is_set,
            on_drain=self.drains.append,
            register=lambda: self.journal.remember_agent(self.plane.register(self.journal.agent_id())),
            on_refused=self.fatal.append,
            clock=self.clock,
            log=self.log,
        )

    def another_worker(self, only: str | None = None) -> Worker:
        """One more slot of the same daemon."""
        return Worker(
            control_plane=self.plane,
            journal=self.journal,
            held_jobs=self.held_jobs,
            interrupted=self.interrupted,
            job_run=self.job_run,
            capacity=self.capacity,
            only=only,
            job_types=lambda: self.job_types,
            is_welcome=lambda project: self.projects is None or project in self.projects,
            refusal=self.admission.refusal,
            poll_turn=threading.Lock(),
            is_draining=self.draining.is_set,
            clock=self.clock,
            log=self.log,
        )

    def step(self) -> Ended | NoJob:
        """One step of the worker."""
        return self.worker.step(wait_s=0)

    def job(self) -> Ended:
        """One step of the worker that runs a job."""
        step = self.step()
        assert isinstance(step, Ended)
        return step

    def claimed(self, key: str = "key") -> HeldJob:
        """A job that was claimed and not begun."""
        job = self.plane.next_job(wait_s=0)
        assert not isinstance(job, NoJob)
        self.journal.intend(job, key)
        claim = self.plane.claim(job, key=key)
        self.journal.hold(claim)
        return HeldJob(claim, self.clock, claimed_at_s=self.clock.now_s())

    def run(self, held: HeldJob) -> Ended:
        """Run a claimed job, and say nothing of it yet."""
        with self.held_jobs.holding(held):
            return self.job_run(held)

    def asking_to_stop(self, reason: StopReason) -> None:
        """Ask whatever is held to stop."""
        self.held_jobs.ask_all_to_stop(reason)

    def again(self, **changes: Any) -> Daemon:
        """The next start over the same folder and the same control plane."""
        self.journal.close()
        kept = {"launcher": self.launcher, "validate": self.validate}
        return Daemon(self.folder, self.server, self.clock, **{**kept, **changes})

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()
