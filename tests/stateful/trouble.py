"""What may befall an agent: calls that fail, lose their answers or are cut short by `kill -9`; work that dies."""

from __future__ import annotations

from collections import Counter
from typing import Any

from agent_parts import a_result_file
from overmind_agent.errors import ProtocolError, TransientError
from overmind_agent.jobs import Result
from overmind_agent.ports import Workspace
from overmind_agent.testing import AFTER

VERBS = (
    "next_job",
    "next_claim",
    "claim",
    "report",
    "report_together",
    "heartbeat",
    "read_parameters",
    "input_file",
    "download",
    "upload",
    "append_log",
)
KINDS = ("down", "lost answer", "nonsense", "killed")


class Killed(BaseException):
    """`kill -9`: nothing catches it, and nothing is done any more."""


def kill() -> None:
    """End whoever calls."""
    raise Killed


def trouble(kind: str, verb: str) -> Any:
    """One step of a script."""
    return {
        "down": TransientError("connection refused", verb=verb),
        "lost answer": AFTER,
        "nonsense": ProtocolError(f"{verb}: not what it should be"),
        "killed": kill,
    }[kind]


class Work:
    """What the launcher does; *runs* counts how often for each job, and it may be killed in the midst."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        self.is_killed_next = False

    def __call__(self, workspace: Workspace) -> Result:
        job_id = workspace.folder.name
        self.runs[job_id] += 1
        file = a_result_file(workspace.output, "output.jsonl", job_id.encode())
        if self.is_killed_next:
            self.is_killed_next = False
            self.killed[job_id] += 1
            raise Killed
        return Result((file,), {"of": job_id})

    def done_again(self) -> dict[str, int]:
        """The jobs that were run more often than kills explain."""
        return {job_id: runs for job_id, runs in self.runs.items() if runs > 1 + self.killed[job_id]}
