"""Whether new jobs are taken: a person's no outlives the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog
from structlog.testing import capture_logs

from daemon_parts import Daemon
from overmind_agent.host.intake import REFUSED, Intake
from overmind_agent.jobs import NoJob
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.testing import FakeServer


def intake(path: Path) -> Intake:
    return Intake(SqliteJournal(path / "journal.sqlite"), structlog.get_logger())


def test_a_pause_holds_over_a_restart_until_it_is_ended(tmp_path: Path) -> None:
    first = intake(tmp_path)
    since = first.pause()

    with capture_logs() as logs:
        second = intake(tmp_path)

    assert (REFUSED, since) == (second.refusal(), second.paused_at)
    assert ["agent.paused"] == [line["event"] for line in logs]
    assert second.resume()
    assert (None, None) == (second.refusal(), intake(tmp_path).paused_at)


def test_a_second_pause_is_the_first_one(tmp_path: Path) -> None:
    made = intake(tmp_path)

    assert made.pause() == made.pause()


def test_there_may_be_nothing_to_resume(tmp_path: Path) -> None:
    made = intake(tmp_path)

    assert not made.resume()
    assert made.refusal() is None


def test_a_job_that_is_offered_while_the_host_is_paused_is_not_claimed(
    start: Callable[..., Daemon], server: FakeServer
) -> None:
    """The poll was held open when the pause began."""
    before_and_after_the_poll = iter([None, REFUSED])
    daemon = start(refusal=lambda: next(before_and_after_the_poll))
    job_id = server.submit()

    assert NoJob(f"not accepting: disk: {REFUSED}") == daemon.step()
    assert Status.PENDING is server.jobs[job_id].status
