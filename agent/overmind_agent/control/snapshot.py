"""Makes the view of the daemon out of its parts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from overmind_agent import __version__
from overmind_agent.contact import Contact
from overmind_agent.control.view import AgentView, ContactView, JobView, LoopView, OutboxView
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.host.capacity import Capacity
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.loops import Pulses
from overmind_agent.ports import Clock
from overmind_config.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Parts:
    """
    What there is to look at. What may be replaced while the daemon runs is asked for anew each time.

    Attributes:
        started_at_s: on *clock*.
        others: called for what is neither counted nor held: see the attributes of AgentView of the same names.
    """

    settings: Callable[[], Settings]
    capacity: Callable[[], Capacity]
    held_jobs: HeldJobs
    pulses: Pulses
    journal: SqliteJournal
    contact: Contact
    clock: Clock
    started_at: datetime
    started_at_s: float
    job_types: Callable[[], tuple[str, ...]]
    is_registered: Callable[[], bool]
    is_draining: Callable[[], bool]
    paused_at: Callable[[], datetime | None]
    disk_refusal: Callable[[], str | None]
    nursery_pid: Callable[[], int | None]


def look(parts: Parts) -> AgentView:
    """
    The daemon as it is now.

    Raises:
        JournalError: the journal cannot be read.
    """
    settings, capacity = parts.settings(), parts.capacity()
    return AgentView(
        version=__version__,
        pid=os.getpid(),
        name=settings.agent.name,
        state_dir=str(settings.agent.state_dir),
        started_at=parts.started_at,
        uptime_s=parts.clock.now_s() - parts.started_at_s,
        slots=capacity.slots,
        free_slots=capacity.free,
        job_types=parts.job_types(),
        paused_at=parts.paused_at(),
        is_draining=parts.is_draining(),
        disk_refusal=parts.disk_refusal(),
        nursery_pid=parts.nursery_pid(),
        contact=_contact(parts, settings),
        outbox=_outbox(parts.journal),
        jobs=_jobs(parts),
        loops=tuple(LoopView(pulse.name, pulse.is_running, pulse.left_s) for pulse in parts.pulses.all()),
    )


def _contact(parts: Parts, settings: Settings) -> ContactView:
    state = parts.contact.state
    return ContactView(
        url=settings.control_plane.url,
        adapter=settings.control_plane.adapter,
        agent_id=parts.journal.agent_id(),
        is_registered=parts.is_registered(),
        answered_s=None if state.answered_at_s is None else parts.clock.now_s() - state.answered_at_s,
        trouble=state.trouble,
        is_refused=state.is_refused,
        token_expires_at=state.token_expires_at,
    )


def _outbox(journal: SqliteJournal) -> OutboxView:
    tally = journal.tally()
    oldest = datetime.fromisoformat(tally.oldest_posted_at) if tally.oldest_posted_at else None
    oldest_s = max(0.0, time.time() - oldest.astimezone(UTC).timestamp()) if oldest else None
    return OutboxView(tally.waiting, oldest_s, tally.parked)


def _jobs(parts: Parts) -> tuple[JobView, ...]:
    at_work = {id(held) for held in parts.held_jobs.all()}
    return tuple(_job(held, parts.journal, is_ending=id(held) not in at_work) for held in parts.held_jobs.leased())


def _job(held: HeldJob, journal: SqliteJournal, *, is_ending: bool) -> JobView:
    claim, progress = held.claim, held.progress
    said = journal.statuses(claim)
    reason = held.asked_to_stop
    return JobView(
        job_id=claim.job.id,
        job_type=claim.job.job_type,
        attempt=claim.attempt,
        status=said[-1].value if said else "Claimed",
        is_ending=is_ending,
        held_s=held.held_s,
        step=progress.step if progress else None,
        total_steps=progress.total_steps if progress else None,
        step_name=progress.step_name if progress else None,
        lease_left_s=held.lease_left_s,
        stop_reason=reason.value if reason else None,
    )
