"""The view of the daemon, over real parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_parts import JOB_ID, a_claim
from overmind_agent.contact import Contact
from overmind_agent.control.snapshot import Parts, look
from overmind_agent.control.view import ContactView, JobView, LoopView, OutboxView, as_json
from overmind_agent.errors import TransientError
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.host.capacity import Capacity
from overmind_agent.jobs import Progress, StopReason
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.loops import STILL_S, Pulses
from overmind_agent.testing import VirtualClock
from overmind_config.settings import Agent, ControlPlane, Settings

STARTED = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A daemon of two slots that has just begun."""
    clock = VirtualClock()
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    plane = ControlPlane(url="https://overmind.example")
    settings = Settings(control_plane=plane, agent=Agent(name="host-1", state_dir=tmp_path, slots=2))
    capacity = Capacity(2, {}, clock)
    yield Parts(
        settings=lambda: settings,
        capacity=lambda: capacity,
        held_jobs=HeldJobs(),
        pulses=Pulses(),
        journal=journal,
        contact=Contact(clock),
        clock=clock,
        started_at=STARTED,
        started_at_s=clock.now_s(),
        job_types=lambda: ("inference",),
        is_registered=lambda: False,
        is_draining=lambda: False,
        paused_at=lambda: None,
        disk_refusal=lambda: None,
        nursery_pid=lambda: None,
    )
    journal.close()


def claimed(parts: Parts) -> HeldJob:
    """A job that is in the journal and was posted as running."""
    claim = a_claim(lease_s=60.0)
    parts.journal.intend(claim.job, "key")
    parts.journal.hold(claim)
    parts.journal.post(claim, Status.VALIDATING)
    parts.journal.post(claim, Status.RUNNING)
    return HeldJob(claim, parts.clock, claimed_at_s=parts.clock.now_s())


def test_an_idle_daemon_that_nobody_answers_says_so(parts: Parts) -> None:
    parts.contact.ended(TransientError("poll: connection refused", verb="poll"))
    parts.pulses.add("heartbeat")

    seen = look(parts)

    expected = ContactView(
        "https://overmind.example", "overmind", None, False, None, "poll: connection refused", False, None
    )
    assert expected == seen.contact
    assert (2, 2, ()) == (seen.slots, seen.free_slots, seen.jobs)
    assert (LoopView("heartbeat", False, STILL_S),) == seen.loops
    assert OutboxView(0, None, 0) == seen.outbox


def test_a_held_job_is_shown_with_its_progress_and_its_lease(parts: Parts) -> None:
    held = claimed(parts)
    parts.clock.sleep(5)
    held.progress = Progress(3, 10, "rows")
    held.ask_to_stop(StopReason.USER_REQUEST)

    with parts.held_jobs.holding(held, is_said=lambda: False):
        at_work = look(parts).jobs
    later = look(parts).jobs

    # Of a lease of 60 s ten are kept back, in which the work can be ended.
    expected = JobView(JOB_ID, "inference", 1, "Running", False, 5.0, 3, 10, "rows", 45.0, "user_request")
    assert (expected,) == at_work
    assert (replace(expected, is_ending=True),) == later


def test_what_waits_in_the_outbox_is_counted(parts: Parts) -> None:
    claimed(parts)

    outbox = look(parts).outbox

    assert (2, 0) == (outbox.waiting, outbox.parked)
    assert outbox.oldest_s is not None
    assert 0 <= outbox.oldest_s < 60


def test_a_view_can_be_written_as_json(parts: Parts) -> None:
    with parts.held_jobs.holding(claimed(parts)):
        told = json.loads(json.dumps(as_json(look(parts))))

    assert "2026-11-22T07:00:00+00:00" == told["started_at"]
    assert JOB_ID == told["jobs"][0]["job_id"]
