"""One exchange for all jobs of an agent: what it holds, and what is wanted of each; all of it ours."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from overmind_agent.wire.basis import Asked, Id, Label, Wire
from overmind_agent.wire.jobs import LeaseGrant


class ProgressLine(Asked):
    """Ours: how far a job is; `usd` is what it has spent, `eta_s` how many seconds it will take from now on."""

    step: Annotated[int, Field(ge=0)]
    total_steps: Annotated[int, Field(ge=0)]
    step_name: Annotated[str, StringConstraints(max_length=255)]
    usd: Annotated[float, Field(ge=0)] | None = None
    eta_s: Annotated[float, Field(ge=0)] | None = None


class HeldJob(Asked):
    """
    Ours: one job of a heartbeat.

    `iterations` are steps of its search as an outcome has them; `ends` is how often the agent has ended in the
    midst of its work in this attempt, and gone on with it.
    """

    job_id: Id
    attempt: Annotated[int, Field(ge=1)]
    progress: ProgressLine | None = None
    iterations: list[dict[str, Any]] = Field(default=[], max_length=100)
    ends: Annotated[int, Field(ge=0, le=1000)] = 0


class Heartbeat(Asked):
    """Ours: one exchange for all of an agent's jobs."""

    slots: Annotated[int, Field(ge=0, lt=1 << 31)]
    draining: bool = False
    wait_s: Annotated[float, Field(ge=0, le=30)] = 0
    jobs: list[HeldJob] = Field(default=[], max_length=1000)
    instance: Id | None = None
    not_accepting: Label | None = None


class JobOrder(Wire):
    """Ours: what is wanted of one held job; `lease` comes with `continue` alone."""

    job_id: Id
    directive: str
    attempt: int | None = None
    lease: LeaseGrant | None = None


class HeartbeatAnswer(Wire):
    """Ours."""

    jobs: list[JobOrder]
    drain: bool = False
    replaced: bool = False
    server_time: datetime | None = None
