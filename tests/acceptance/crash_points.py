"""Kills an agent, or a job, before one of its boundaries, starts the agent again and sees how the job ends."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host import Agent, Host, Submitter, inference, reviews, wait_until
from plane_files import make_job

from overmind_agent.testing import fail_points

PYTHON_PATH = Path(__file__).parents[1] / "kit" / "python_path"
JOB_ENV = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", fail_points.PLAN, fail_points.LOG, fail_points.WHOSE)
AGENT = f"""
job_types = ["inference", "ledger"]
job_env = {json.dumps(JOB_ENV)}
min_free_bytes = 0
nice = 0
"""
BUG = 70
ONE = ("--once", "--wait", "3")
STARTS = 5  # of an agent, until its job is at its end


@dataclass(frozen=True)
class Kind:
    """A kind of job: its type, its parameters, given the file of its ledger, and whether it has an input file."""

    job_type: str
    parameters: Callable[[Path], dict[str, Any]]
    has_input: bool = False


# One line for each job type that is swept.
KINDS = {
    "ledger": Kind("ledger", lambda ledger: {"ledger": str(ledger)}, has_input=True),
    "inference": Kind("inference", lambda _ledger: inference(reviews(3))),
}


@dataclass(frozen=True)
class Swept:
    """
    What became of one job whose agent was killed, or met an error, at one boundary.

    Attributes:
        where: the boundary, as it was passed.
        code: of the first start.
        had_result: whether the work was done when the first start ended.
        runs: how often the work was begun, in the first start and in all.
        history: of the job.
        left: what the journal still waits to say.
        children: the processes of jobs that are still there.
        said: the last lines of the first start, where it ended with a traceback.
    """

    where: str
    code: int
    had_result: bool
    runs: tuple[int, int]
    history: list[str]
    message: str | None
    left: int
    children: list[int]
    said: str


class Bench:
    """A folder for hosts, one for each point; *token* is an agent's."""

    def __init__(self, folder: Path, url: str, token: str, models: str, submitter: Submitter) -> None:
        self.folder = folder
        self._parts = (url, token, models)
        self._submitter = submitter

    def boundaries(self, kind: str, whose: str) -> list[str]:
        """Those of an undisturbed run."""
        swept = self.sweep(kind, "0=kill", whose)
        assert "Completed" == swept.history[-1]
        return (self.folder / f"{kind}-{whose}-0-kill" / "boundaries").read_text().splitlines()

    def sweep(self, kind: str, plan: str, whose: str = "agent") -> Swept:
        """One job, disturbed as *plan* says, to its end."""
        host = Host(self.folder / f"{kind}-{whose}-{plan.replace('=', '-')}", *self._parts, more=AGENT)
        log = host.folder / "boundaries"
        environment = fail_points.environment(plan, whose=whose, log=log)
        environment["PYTHONPATH"] += f":{PYTHON_PATH}"
        return self._whole(host, kind, plan, lambda: host.start(*ONE, **environment))

    def sweep_within(self, kind: str, name: str, within: Sequence[str]) -> Swept:
        """One job whose agent is first started by the command *within*, to its end; *name* is the point's."""
        host = Host(self.folder / f"{kind}-{name}", *self._parts, more=AGENT)
        return self._whole(host, kind, name, lambda: host.start(*ONE, within=within, PYTHONPATH=str(PYTHON_PATH)))

    def _whole(self, host: Host, kind: str, plan: str, start: Callable[[], Agent]) -> Swept:
        try:
            return self._sweep(host, kind, plan, start)
        finally:
            host.stop_all()

    def _submit(self, kind: Kind, ledger: Path) -> str:
        whom = self._submitter
        if not kind.has_input:
            return whom.submit(kind.parameters(ledger), job_type=kind.job_type)
        return make_job(whom.url, whom.token, b"", "input.txt", kind.parameters(ledger), job_type=kind.job_type)

    def _sweep(self, host: Host, kind: str, plan: str, start: Callable[[], Agent]) -> Swept:
        ledger, log = host.folder / "ledger", host.folder / "boundaries"
        job_id = self._submit(KINDS[kind], ledger)
        first = start()
        code = first.exit_code()
        had_result = (host.state / "jobs" / job_id / "result.json").exists()
        begun = _begun(ledger, job_id)
        for _ in range(STARTS):
            is_over = self._submitter.history(job_id)[-1] in ("Completed", "Failed", "Canceled")
            if is_over and not _left(host.state / "journal.sqlite"):
                break
            host.start("--once", "--wait", "0" if is_over else "7", PYTHONPATH=str(PYTHON_PATH)).exit_code()
        children = _still_there(host)
        passed = log.read_text().splitlines() if log.exists() else [""]
        return Swept(
            where=passed[-1] if code == -signal.SIGKILL else plan,
            code=code,
            had_result=had_result,
            runs=(begun, _begun(ledger, job_id)),
            history=self._submitter.history(job_id),
            message=self._submitter.job(job_id)["status_history"][-1].get("message"),
            left=_left(host.state / "journal.sqlite"),
            children=children,
            said="\n".join(first.raw[-12:]) if code == BUG else "",
        )


def _still_there(host: Host) -> list[int]:
    """The processes of jobs that do not go away; a killed one may take a moment."""
    with suppress(AssertionError):
        wait_until(lambda: not host.children(), timeout_s=5)
    return host.children()


def _begun(ledger: Path, job_id: str) -> int:
    if not ledger.exists():
        return 0
    lines = map(json.loads, ledger.read_text().splitlines())
    return sum(line["what"] == "begun" and line["job_id"] == job_id for line in lines)


def _left(journal: Path) -> int:
    if not journal.exists():
        return 0
    db = sqlite3.connect(journal)
    try:
        (found,) = db.execute("SELECT count(*) FROM outbox WHERE fate IS NULL").fetchone()
    finally:
        db.close()
    return int(found)
