"""
The daemon at one moment, as plain values: what `status` and `jobs` show, what health and metrics are made of.

`Service.snapshot()` gives an `AgentView`; it may be called from any thread, takes no lock for longer than a copy,
asks no server, and reads the journal (a few short queries). `as_json` is the same for a wire.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class JobView:
    """
    One job that this agent holds.

    Attributes:
        job_id, job_type, attempt: untrusted words of the control plane, but for the number.
        status: the last one that was posted, by its name on the wire, such as `Running`.
        is_ending: whether its work is over and only its last word is still on its way.
        held_s: seconds since the claim was sent.
        step, total_steps, step_name: how far the executor says it is, None before its first word; untrusted.
        lease_left_s: seconds until the work is stopped unless a heartbeat gets through; None without a lease.
        stop_reason: why its work was asked to end, None as long as it was not.
    """

    job_id: str
    job_type: str
    attempt: int
    status: str
    is_ending: bool
    held_s: float
    step: int | None
    total_steps: int | None
    step_name: str | None
    lease_left_s: float | None
    stop_reason: str | None


@dataclass(frozen=True)
class LoopView:
    """
    One loop of the daemon.

    Attributes:
        name: as the log calls it, such as `heartbeat` or `worker-1`.
        is_running: False before it began and after it ended.
        left_s: seconds until it counts as standing still; below 0 it does.
    """

    name: str
    is_running: bool
    left_s: float


@dataclass(frozen=True)
class OutboxView:
    """
    Statuses on their way.

    Attributes:
        waiting: how many are still to be sent.
        oldest_s: for how many seconds the oldest of them has waited, by wall time; None when there is none.
        parked: how many were refused or waited too long, and are sent only when somebody says so.
    """

    waiting: int
    oldest_s: float | None
    parked: int


@dataclass(frozen=True)
class ContactView:
    """
    How it stands with the control plane.

    Attributes:
        url, adapter: from the settings.
        agent_id: what this agent is registered under, None before the first registration.
        is_registered: whether it was registered since this start.
        answered_s: seconds since the last answer to anything; None before the first of this start.
        trouble: why calls fail now, None when the last one went well.
        is_refused: whether it is the token that is not accepted.
        token_expires_at: when the token ends, None for never as far as is known.
    """

    url: str
    adapter: str
    agent_id: str | None
    is_registered: bool
    answered_s: float | None
    trouble: str | None
    is_refused: bool
    token_expires_at: datetime | None


@dataclass(frozen=True)
class AgentView:
    """
    The whole daemon.

    Attributes:
        started_at: aware, UTC.
        uptime_s: seconds on the monotonic clock since then.
        slots, free_slots: as `Capacity` counts them; free is negative while fewer slots are wanted than are in use.
        paused_at: since when no new job is taken, because a person said so; None when it is.
        is_draining: whether it takes no new job and will end when the present ones have.
        disk_refusal: why the disk keeps it from taking a job, None when it does not.
        nursery_pid: of the process that forks jobs, None when there is none.
        jobs: oldest first; those whose last word is on its way come last.
        loops: in the order in which they were made.
    """

    version: str
    pid: int
    name: str
    state_dir: str
    started_at: datetime
    uptime_s: float
    slots: int
    free_slots: int
    job_types: tuple[str, ...]
    paused_at: datetime | None
    is_draining: bool
    disk_refusal: str | None
    nursery_pid: int | None
    contact: ContactView
    outbox: OutboxView
    jobs: tuple[JobView, ...]
    loops: tuple[LoopView, ...]


def as_json(view: Any) -> dict[str, Any]:
    """A view of this module as a JSON object: its attributes by their names, times in ISO 8601."""
    return {name: _plain(value) for name, value in asdict(view).items()}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case float():
            return round(value, 3)
    return value
