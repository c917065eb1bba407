"""
The life of a job, as data: the only list of statuses in the project.

```
CREATED → PENDING → CLAIMED → VALIDATING → RUNNING → UPLOADING → COMPLETED
             ▲          └──────────┴──────────┴──────────┘
             └── released by its holder, or its lease ran out
```

From every status that is not final, FAILED and CANCELED may follow. UNKNOWN is only ever read: it is what
a name that a newer server sends becomes.

Source:
    Status names: Istari's agent-pull types (`JobStatusName`). REST names: Overmind Lab's `Job.status`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from overmind_agent.errors import IllegalTransition


class Status(StrEnum):
    """A job's status; the value is the name on the agent-pull wire."""

    CREATED = "Created"
    PENDING = "Pending"
    CLAIMED = "Claimed"
    VALIDATING = "Validating"
    RUNNING = "Running"
    UPLOADING = "Uploading"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"
    UNKNOWN = "Unknown"

    @classmethod
    def read(cls, name: str) -> Status:
        """The status called *name* on the wire, UNKNOWN for a name that this version does not know."""
        return _BY_NAME.get(name, cls.UNKNOWN)


@dataclass(frozen=True)
class Stage:
    """
    What the life of a job says about one status.

    Attributes:
        set_by: who may set it: `control plane`, `agent`, `either` or `nobody`.
        means: one line for people.
        next: the statuses that may follow.
        rest_name: Overmind Lab's word for it; empty for UNKNOWN, which is never written.
    """

    set_by: str
    means: str
    next: frozenset[Status]
    rest_name: str

    @property
    def is_final(self) -> bool:
        """Whether nothing may follow, ever."""
        return not self.next and bool(self.rest_name)

    @property
    def is_held(self) -> bool:
        """Whether an agent holds the job: the statuses that the holder may give back."""
        return self.set_by == "agent" and Status.PENDING in self.next


def _stage(set_by: str, means: str, rest_name: str, *following: Status) -> Stage:
    return Stage(set_by, means, frozenset(following), rest_name)


_END: Final = (Status.FAILED, Status.CANCELED)
_GIVE_BACK: Final = (Status.PENDING, *_END)

LIFECYCLE: Final[dict[Status, Stage]] = {
    Status.CREATED: _stage("control plane", "known, not queued", "pending", Status.PENDING, *_END),
    Status.PENDING: _stage("control plane", "may be handed out", "pending", Status.CLAIMED, *_END),
    Status.CLAIMED: _stage("agent", "an agent holds it", "running", Status.VALIDATING, *_GIVE_BACK),
    Status.VALIDATING: _stage(
        "agent", "parameters and inputs are being checked", "running", Status.RUNNING, *_GIVE_BACK
    ),
    Status.RUNNING: _stage("agent", "the executor is at work", "running", Status.UPLOADING, *_GIVE_BACK),
    Status.UPLOADING: _stage("agent", "result files are on their way", "running", Status.COMPLETED, *_GIVE_BACK),
    Status.COMPLETED: _stage("agent", "final", "completed"),
    Status.FAILED: _stage("either", "final, with a reason", "failed"),
    Status.CANCELED: _stage("either", "final, on request", "cancelled"),
    Status.UNKNOWN: _stage("nobody", "a name that this version does not know", ""),
}

_BY_NAME: Final = {status.value: status for status in Status}


def advance(now: Status, to: Status) -> Status:
    """
    *to*, if it may follow *now*.

    Raises:
        IllegalTransition: it may not.
    """
    if to not in LIFECYCLE[now].next:
        raise IllegalTransition(f"a job that is {now.name} cannot become {to.name}")
    return to
