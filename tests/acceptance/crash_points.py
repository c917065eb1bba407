"""Kills an agent, or a job, before one of its boundaries, starts the agent again and sees how the job ends."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from host import Agent, Host, Submitter, wait_until
from plane_files import make_job

import small_jobs
from overmind_agent.signals import DUMP
from overmind_agent.testing import fail_points
from server import ControlPlaneProcess
from small_jobs import SmallJob, in_flight
from zoo import Zoo

PYTHON_PATH = Path(__file__).parents[1] / "kit" / "python_path"
JOB_ENV = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", fail_points.PLAN, fail_points.LOG, fail_points.WHOSE)
AGENT = f"""
job_types = ["inference", "ledger"]
job_env = {json.dumps(JOB_ENV)}
min_free_bytes = 0
nice = 0
"""
MODEL = """
[models.{name}]
base_url = "{url}"
model = "{name}"
max_concurrency = 1
input_price = 1.0
output_price = 1.0
"""
PATIENCE_S = 300.0  # with one start, which takes seconds: on a machine that is busy with other work many
ONCE = ("--once",)
DAEMON = ("--max-jobs", "1", "--idle-timeout", "3")  # with a nursery, which forks its children
TOLD = ("error", "wait_s", "reason", "message", "status", "stacks", "loops")  # of a line of the log
STARTS = 5  # of an agent, until its job is at its end
ENDS = ("Completed", "Failed", "Canceled")
LEDGER = SmallJob("ledger", {"ledger": "{ledger}"}, pictures=("output.bin",))


@dataclass(frozen=True)
class Kind:
    """A small job, whether it has an input file, and how its agent is run."""

    job: SmallJob
    has_input: bool = False
    run: Sequence[str] = ONCE


# One line for each job type that is swept.
KINDS = {
    "ledger": Kind(LEDGER, has_input=True),
    "inference": Kind(small_jobs.INFERENCE),
    "uploaded_outputs_setup": Kind(small_jobs.UPLOADED_OUTPUTS),
    "judge_scoring": Kind(small_jobs.JUDGE_SCORING),
    "prompt_tuning": Kind(small_jobs.PROMPT_TUNING),
    "model_backtesting": Kind(small_jobs.MODEL_BACKTESTING),
    "daemon": Kind(LEDGER, has_input=True, run=DAEMON),
}


@dataclass(frozen=True)
class Swept:
    """
    What became of one job whose agent was killed, or met an error, at one boundary.

    Attributes:
        where: the boundary, as it was passed.
        boundaries: all that the disturbed process passed.
        code: of the first start.
        in_flight: calls of chat models whose answer was not on disk when the first start ended.
        had_result: whether the work was done when the first start ended.
        again: children that later starts began.
        calls: of chat models, in all.
        history: of the job.
        left: what the journal still waits to say.
        children: the processes of jobs that are still there.
        files: the job's result files, by name.
        resumed_s: from the second start to its first word about the job; None when it had none to say.
        took_s: from the first start to the end of the last one.
        story: what all starts logged, with the seconds since the first one.
    """

    where: str
    boundaries: Sequence[str]
    code: int
    in_flight: int
    had_result: bool
    again: int
    calls: int
    history: list[str]
    message: str | None
    left: int
    children: list[int]
    files: dict[str, bytes] = field(repr=False)
    resumed_s: float | None
    took_s: float
    story: list[str] = field(repr=False)


class Bench:
    """A folder for hosts; each point has a host, a zoo of models and a project of its own. Safe from any thread."""

    def __init__(self, folder: Path, plane: ControlPlaneProcess) -> None:
        self.folder = folder
        self._plane = plane
        self._lock = threading.Lock()
        self._undisturbed: dict[tuple[str, str], Swept] = {}

    def undisturbed(self, kind: str, whose: str = "agent") -> Swept:
        """A run to which nothing happened; `boundaries` are those of *whose*."""
        if (kind, whose) not in self._undisturbed:
            swept = self.sweep(kind, "0=kill", whose)
            assert "Completed" == swept.history[-1], swept
            self._undisturbed[kind, whose] = swept
        return self._undisturbed[kind, whose]

    def sweep(self, kind: str, plan: str, whose: str = "agent") -> Swept:
        """One job, disturbed as *plan* says, to its end."""
        log = self.folder / f"{kind}-{whose}-{plan.replace('=', '-')}.boundaries"
        environment = fail_points.environment(plan, whose=whose, log=log)
        environment["PYTHONPATH"] += f":{PYTHON_PATH}"
        return self._whole(kind, log.stem, plan, lambda host, run: host.start(*run, **environment), log)

    def sweep_within(self, kind: str, name: str, within: Sequence[str]) -> Swept:
        """One job whose agent is first started by the command *within*, to its end; *name* is the point's."""
        path = {"PYTHONPATH": str(PYTHON_PATH)}
        log = self.folder / f"{kind}-{name}.boundaries"
        return self._whole(kind, log.stem, name, lambda host, run: host.start(*run, within=within, **path), log)

    def _whole(
        self, kind: str, name: str, plan: str, start: Callable[[Host, Sequence[str]], Agent], log: Path
    ) -> Swept:
        with self._lock:
            tokens = self._plane.new_project()
        submitter = Submitter(self._plane.url, tokens.submit)
        with Zoo(KINDS[kind].job.models) as zoo, closing(submitter):
            host = host_for(self.folder / name, self._plane.url, tokens.agent, KINDS[kind], zoo.url)
            try:
                return _sweep(host, KINDS[kind], plan, lambda run: start(host, run), log, zoo, submitter)
            finally:
                host.stop_all()


def host_for(folder: Path, url: str, token: str, kind: Kind, models: str) -> Host:
    """A host that runs jobs of *kind*, whose models are at the URL *models*."""
    more = AGENT.replace('"inference"', f'"inference", "{kind.job.job_type}"')
    host = Host(folder, url, token, models, more=more)
    before, _, after = host.config.read_text().partition("[models.local]")
    told = "".join(MODEL.format(name=name, url=models) for name in kind.job.models)
    host.config.write_text(f"{before}{told}[logging]{after.partition('[logging]')[2]}")
    return host


def submit(kind: Kind, submitter: Submitter, ledger: Path) -> str:
    """The id of a new job of *kind*."""
    told = {name: str(ledger) if value == "{ledger}" else value for name, value in kind.job.parameters.items()}
    if not kind.has_input:
        return submitter.submit(told, job_type=kind.job.job_type)
    return make_job(submitter.url, submitter.token, b"", "input.txt", told, job_type=kind.job.job_type)


def _sweep(
    host: Host,
    kind: Kind,
    plan: str,
    start: Callable[[Sequence[str]], Agent],
    log: Path,
    zoo: Zoo,
    submitter: Submitter,
) -> Swept:
    journal = host.state / "journal.sqlite"
    job_id = submit(kind, submitter, host.folder / "ledger")
    began_s = time.monotonic()
    first = start(_for(kind, wait_s=3))
    code = _code_of(first)
    _still_there(host)  # its child ends with it, a moment later
    folder = host.state / "jobs" / job_id
    unanswered, had_result = in_flight(folder / "state"), (folder / "result.json").exists()
    later: list[Agent] = []
    while len(later) < STARTS:
        is_over = submitter.history(job_id)[-1] in ENDS
        if is_over and not _left(journal):
            break
        later.append(host.start(*_for(kind, wait_s=0 if is_over else 7), PYTHONPATH=str(PYTHON_PATH)))
        _code_of(later[-1])
    took_s = time.monotonic() - began_s
    passed = log.read_text().splitlines() if log.exists() else [""]
    return Swept(
        where=passed[-1] if code == -signal.SIGKILL else plan,
        boundaries=passed,
        code=code,
        in_flight=unanswered,
        had_result=had_result,
        again=sum(line["event"] == "child.started" for agent in later for line in agent.lines),
        calls=zoo.total,
        history=submitter.history(job_id),
        message=submitter.job(job_id)["status_history"][-1].get("message"),
        left=_left(journal),
        children=_still_there(host),
        files=submitter.files(job_id),
        resumed_s=_first_word_s(later[0], job_id) if later else None,
        took_s=took_s,
        story=[line for agent in (first, *later) for line in _story(agent, first.started_at)],
    )


def _for(kind: Kind, *, wait_s: int) -> Sequence[str]:
    return (*kind.run, "--wait", str(wait_s)) if kind.run == ONCE else kind.run


def _code_of(agent: Agent) -> int:
    """Its exit code; one that does not end says where it stands, and is killed."""
    with suppress(subprocess.TimeoutExpired):
        agent.process.wait(PATIENCE_S)
    if agent.process.poll() is None:
        agent.signal(DUMP)
        agent.wait_for("agent.stacks")
        agent.process.kill()
    return agent.exit_code()


def _story(agent: Agent, began_at: float) -> Iterator[str]:
    for line in agent.lines:
        at_s = datetime.fromisoformat(line["timestamp"]).timestamp() - began_at
        facts = {name: value for name, value in line.items() if name in TOLD}
        yield f"{at_s:.2f} {line['event']} {facts}"
    yield from (line for line in agent.raw if not line.startswith("{"))
    yield f"exit code {agent.process.returncode}"


def _first_word_s(agent: Agent, job_id: str) -> float | None:
    """From the start of *agent* to the first line that it wrote about the job."""
    for line in agent.lines:
        if line.get("job_id") == job_id:
            return datetime.fromisoformat(line["timestamp"]).timestamp() - agent.started_at
    return None


def _still_there(host: Host) -> list[int]:
    """The processes of jobs that do not go away; a killed one may take a moment."""
    with suppress(AssertionError):
        wait_until(lambda: not host.children(), timeout_s=5)
    return host.children()


def _left(journal: Path) -> int:
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal)) as db:
        try:
            (found,) = db.execute("SELECT count(*) FROM outbox WHERE fate IS NULL").fetchone()
        except sqlite3.OperationalError:  # killed before there was a table
            return 0
    return int(found)
