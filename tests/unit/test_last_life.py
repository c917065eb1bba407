"""What a start makes of the one before it: a reboot or not, and work that has lain for too long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from agent_parts import JOB_ID, a_claim, a_job
from overmind_agent.host.last_life import (
    LastLife,
    give_up_what_is_too_late,
    look_back,
    note_alive,
    read_boot_id,
)
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(tmp_path / "journal.sqlite")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("before", "now", "ended_by"),
    [
        ("one", "one", "agent_end"),
        ("one", "two", "host_reboot"),
        (None, "one", "unknown"),
        ("one", None, "unknown"),
    ],
)
def test_a_reboot_of_the_host_is_told_from_an_end_of_the_agent(
    journal: SqliteJournal, before: str | None, now: str | None, ended_by: str
) -> None:
    look_back(journal, NOW, before)

    assert LastLife(ended_by, None) == look_back(journal, NOW, now)


def test_the_last_sign_of_life_is_remembered(journal: SqliteJournal) -> None:
    note_alive(journal)
    later = datetime.now(UTC) + timedelta(hours=3)

    away = look_back(journal, later, None).away

    assert away is not None
    assert timedelta(hours=3) <= away < timedelta(hours=3, minutes=1)


@pytest.mark.parametrize(
    ("away", "last", "is_held"),
    [
        (timedelta(hours=47), Status.RUNNING, True),
        (timedelta(hours=49), Status.CLAIMED, False),
        (timedelta(hours=49), Status.RUNNING, False),
        (timedelta(hours=49), Status.UPLOADING, True),
        (None, Status.RUNNING, True),
        (timedelta(hours=-400), Status.RUNNING, True),
    ],
)
def test_what_has_lain_for_two_days_is_failed_unless_its_result_was_finished(
    journal: SqliteJournal, away: timedelta | None, last: Status, is_held: bool
) -> None:
    """Also where the time of day was set back: then nothing is known, and it is gone on with."""
    way = (Status.CLAIMED, Status.VALIDATING, Status.RUNNING, Status.UPLOADING)
    claim = a_claim(JOB_ID)
    journal.intend(a_job(JOB_ID), "key")
    journal.hold(claim)
    for status in way[1 : way.index(last) + 1]:
        journal.post(claim, status)

    give_up_what_is_too_late(journal, LastLife("host_reboot", away), structlog.get_logger())

    assert ([claim] if is_held else []) == journal.held()
    assert (last if is_held else Status.FAILED) == journal.statuses(claim)[-1]


def test_the_reason_is_said(journal: SqliteJournal) -> None:
    claim = a_claim(JOB_ID)
    journal.intend(a_job(JOB_ID), "key")
    journal.hold(claim)

    give_up_what_is_too_late(journal, LastLife("agent_end", timedelta(hours=50)), structlog.get_logger())

    (posted,) = journal.undelivered()
    assert {"reason": "agent_restarted"} == posted.update.detail
    assert "agent_restarted: the agent was away for 50 h, more than 48" == posted.update.message


def test_this_host_has_a_boot_id(tmp_path: Path) -> None:
    assert read_boot_id()
    assert read_boot_id(tmp_path / "missing") is None
