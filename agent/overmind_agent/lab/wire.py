"""
What goes over the Overmind Lab wire, as far as a worker reads it, and what it reads out of it.

Keys that are not known are ignored; of those that are, older servers leave some out.

Source:
    Overmind Lab's published API reference, and its two generated clients for what may be missing.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Final

from overmind_agent import jobs
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.wire import Id, Wire
from overmind_executors import strict_json

PARAMETERS_NAME: Final = "parameters.json"
_RUNS: Final = uuid.UUID("0b5c9d0e-4f0a-4a5b-9a57-4e6e7f1a2c33")
"""The name space of run ids."""

# Four of the ten names are one word here: to be RUNNING is all that can be read of them.
_READ: Final = {
    LIFECYCLE[status].rest_name: status
    for status in (Status.PENDING, Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELED)
}


class LabPage(Wire):
    """One page of a list; `next` is null, absent or empty on the last one."""

    results: list[dict[str, Any]]
    next: str | None = None


class LabRow(Wire):
    """A line of the list of jobs. It has no `result`: the parameters are in the record alone."""

    id: Id
    status: str
    job_type: str | None = None
    project: Any = None  # nothing hangs on it, so nothing is refused for it
    created_at: str | None = None


class LabJob(LabRow):
    """A whole record."""

    celery_task_id: str | None = None
    result: Any = None
    iterations: Any = None

    @property
    def stage(self) -> Status:
        """Its status, UNKNOWN for a word that this version does not know."""
        return _READ.get(self.status, Status.UNKNOWN)

    @property
    def envelope(self) -> dict[str, Any]:
        """Its `result` as an object; one that is something else is kept under `original`."""
        if isinstance(self.result, Mapping):
            return dict(self.result)
        return {} if self.result is None else {"original": self.result}

    @property
    def listed(self) -> frozenset[tuple[Any, Any]]:
        """Order and name of the iterations that it has."""
        told = self.iterations if isinstance(self.iterations, list) else []
        return frozenset((i.get("order"), i.get("iteration_name")) for i in told if isinstance(i, Mapping))

    @property
    def run(self) -> Mapping[str, Any]:
        """What the last worker said of itself, empty if none did."""
        found = self.envelope.get("agent_run")
        return found if isinstance(found, Mapping) else {}

    @property
    def run_id(self) -> str | None:
        """Whose run it is, None before the first."""
        told = self.celery_task_id or self.run.get("run_id")
        return told if isinstance(told, str) else None

    @property
    def attempt(self) -> int:
        """How often it was claimed so far."""
        return _count(self.run.get("attempt"))

    @property
    def sequence(self) -> int:
        """The number of the last word that was written in this attempt."""
        return _count(self.run.get("sequence"))

    @property
    def parameters(self) -> Any:
        """As they were given; an empty object when there are none."""
        return self.envelope.get("parameters", {})

    def as_job(self) -> jobs.Job:
        """The job behind its wire form."""
        raw = strict_json.canonical(self.parameters)
        digest = hashlib.sha384(raw).hexdigest()
        return jobs.Job(
            id=self.id,
            job_type=self.job_type or "",
            parameters=jobs.RemoteFile(PARAMETERS_NAME, digest, "", len(raw), self.id),
            model_id=None,
            status=self.stage,
            has_input=False,
            project=self.project if isinstance(self.project, str) else None,
        )


def run_id(agent_id: str, job_id: str, attempt: int) -> str:
    """The id of one attempt: all threads of an agent, and its next start, find the same."""
    return str(uuid.uuid5(_RUNS, f"{agent_id}/{job_id}/{attempt}"))


def _count(told: Any) -> int:
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0
