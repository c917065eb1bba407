"""What ends its agent again and again is given up, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from agent_parts import a_claim, a_job
from overmind_agent.host.deadly_jobs import ENDS, ended_in_order, give_up_what_ends_us, probing, suspects
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status

DEADLY, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
WAY = (Status.CLAIMED, Status.VALIDATING, Status.RUNNING, Status.UPLOADING)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(tmp_path / "journal.sqlite")) as opened:
        yield opened


def hold(journal: SqliteJournal, job_id: str, last: Status = Status.RUNNING, *, lease_s: float | None = 60) -> None:
    journal.intend(a_job(job_id), f"key of {job_id}")
    journal.hold(a_claim(job_id, lease_s=lease_s))
    for status in WAY[1 : WAY.index(last) + 1]:
        journal.post(a_claim(job_id), status)


def start(journal: SqliteJournal, *, times: int = 1, after: str = "agent_end") -> Mapping[tuple[str, int], int]:
    found: Mapping[tuple[str, int], int] = {}
    for _ in range(times):
        found = give_up_what_ends_us(journal, journal, after, structlog.get_logger())
    return found


def held(journal: SqliteJournal) -> Sequence[str]:
    return [claim.job.id for claim in journal.held()]


def last_words(journal: SqliteJournal, job_id: str) -> tuple[Status, object]:
    last = [posted.update for posted in journal.undelivered() if posted.update.job_id == job_id][-1]
    return last.status, last.detail.get("reason")


@pytest.mark.parametrize(
    ("last", "is_given_up"),
    [(Status.CLAIMED, False), (Status.VALIDATING, False), (Status.RUNNING, True), (Status.UPLOADING, False)],
)
def test_three_ends_at_its_work_are_enough(journal: SqliteJournal, last: Status, is_given_up: bool) -> None:
    """Before its work begins it cannot have done it, and a result that is there is delivered."""
    hold(journal, DEADLY, last)

    start(journal, times=ENDS - 1)
    before = held(journal)
    start(journal)

    assert [DEADLY] == before
    assert ([] if is_given_up else [DEADLY]) == held(journal)


def test_the_reason_is_that_of_the_control_plane(journal: SqliteJournal) -> None:
    hold(journal, DEADLY)

    start(journal, times=ENDS)

    assert (Status.FAILED, "attempts_exhausted") == last_words(journal, DEADLY)


def test_reboots_are_not_counted(journal: SqliteJournal) -> None:
    hold(journal, DEADLY)

    start(journal, times=ENDS, after="host_reboot")

    assert [DEADLY] == held(journal)


def test_an_orderly_end_begins_the_count_anew(journal: SqliteJournal) -> None:
    hold(journal, DEADLY)

    for _ in range(ENDS):
        start(journal, times=ENDS - 1)
        ended_in_order(journal)

    assert [DEADLY] == held(journal)


def test_a_job_that_was_there_only_lately_is_gone_on_with(journal: SqliteJournal) -> None:
    hold(journal, DEADLY)
    start(journal)
    hold(journal, OTHER)

    start(journal, times=ENDS - 1)

    assert [OTHER] == held(journal)
    assert (Status.FAILED, "attempts_exhausted") == last_words(journal, DEADLY)


def test_of_several_none_is_failed_for_what_one_did(journal: SqliteJournal) -> None:
    """Nothing more is said of them: their leases run out."""
    hold(journal, DEADLY)
    hold(journal, OTHER)

    start(journal, times=ENDS)

    assert ([], []) == (held(journal), list(journal.undelivered()))


def test_after_two_ends_with_several_at_work_each_goes_on_by_itself_and_the_one_that_did_it_is_failed(
    journal: SqliteJournal,
) -> None:
    """And the others are under no suspicion any more."""
    hold(journal, DEADLY)
    hold(journal, OTHER)
    start(journal, times=ENDS - 2)
    before = suspects(journal, journal)
    start(journal)
    suspected = suspects(journal, journal)
    probing(journal, a_claim(OTHER))
    probing(journal, None)
    probing(journal, a_claim(DEADLY))

    start(journal)

    assert (frozenset(), frozenset({(DEADLY, 1), (OTHER, 1)})) == (before, suspected)
    assert (Status.FAILED, "attempts_exhausted") == last_words(journal, DEADLY)
    assert [OTHER] == held(journal)
    assert frozenset() == suspects(journal, journal)


def test_of_several_each_is_failed_where_no_lease_runs_out(journal: SqliteJournal) -> None:
    hold(journal, DEADLY, lease_s=None)
    hold(journal, OTHER, lease_s=None)

    start(journal, times=ENDS)

    assert [] == held(journal)
    assert [(Status.FAILED, "attempts_exhausted")] * 2 == [last_words(journal, job) for job in (DEADLY, OTHER)]


def test_only_the_ends_of_a_job_that_was_alone_are_told(journal: SqliteJournal) -> None:
    """Nobody knows which of two it was; a reboot was none, and an orderly end begins anew."""
    hold(journal, DEADLY)
    alone = start(journal)
    hold(journal, OTHER)
    together = start(journal)
    rebooted = start(journal, after="host_reboot")
    ended_in_order(journal)
    anew = start(journal, after="host_reboot")

    job, other = (DEADLY, 1), (OTHER, 1)
    both = {job: 1, other: 0}
    assert [{job: 1}, both, both, {job: 0, other: 0}] == [alone, together, rebooted, anew]
