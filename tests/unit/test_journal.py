"""The journal, on real SQLite files: what it knows survives, in order, or it says that it cannot promise it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_parts import JOB_ID, a_claim, a_job, a_result_file
from overmind_agent.errors import IllegalTransition, JournalError
from overmind_agent.journal.file import PRAGMAS, SCHEMA_VERSION, STEPS
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status

WAY = (Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.COMPLETED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as opened:
        yield opened


def held(journal: SqliteJournal, job_id: str = JOB_ID, attempt: int = 1) -> None:
    """Claim a job, as the worker does."""
    journal.intend(a_job(job_id), f"key-{job_id}-{attempt}")
    journal.hold(a_claim(job_id, attempt))


def waiting(journal: SqliteJournal) -> list[tuple[str, int, int, Status]]:
    """What waits to be sent."""
    updates = [posted.update for posted in journal.undelivered()]
    return [(u.job_id, u.attempt, u.sequence, u.status) for u in updates]


def sent(journal: SqliteJournal) -> list[tuple[str, int, Status]]:
    """Everything that waits, in the order in which it would be sent."""
    order = []
    while found := journal.undelivered():
        for posted in found:
            order.append((posted.update.job_id, posted.update.sequence, posted.update.status))
            journal.delivered(posted)
    return order


# ------------------------------------------------------------------------------------ power cuts


class Disk:
    """Notes what it is told to sync; fails as long as *error* is one."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.error: OSError | None = None

    def sync(self, path: Path) -> None:
        if self.error is not None:
            raise self.error
        self.synced.append(path.name)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def slow_journal(path: Path, disk: Disk) -> Iterator[SqliteJournal]:
    """On a disk that notes when it is waited for."""
    with closing(SqliteJournal(path, sync=disk.sync)) as opened:
        held(opened)
        yield opened


def test_what_may_be_told_is_on_disk_and_waited_for_once(slow_journal: SqliteJournal, disk: Disk) -> None:
    """The job does not wait; whoever tells the control plane does, for all that has gathered."""
    slow_journal.post(a_claim(), Status.VALIDATING)
    slow_journal.post(a_claim(), Status.RUNNING)
    before = list(disk.synced)

    told = waiting(slow_journal)
    again = waiting(slow_journal)

    assert ([], ["journal.sqlite-wal"]) == (before, disk.synced)
    assert [(JOB_ID, 1, 1, Status.VALIDATING), (JOB_ID, 1, 2, Status.RUNNING)] == told == again


def test_that_something_was_delivered_is_no_reason_to_wait_for_the_disk(
    slow_journal: SqliteJournal, disk: Disk
) -> None:
    slow_journal.post(a_claim(), Status.VALIDATING)
    slow_journal.post(a_claim(), Status.RUNNING)

    slow_journal.delivered(slow_journal.undelivered()[0])
    left = waiting(slow_journal)

    assert ([(JOB_ID, 1, 2, Status.RUNNING)], ["journal.sqlite-wal"]) == (left, disk.synced)


def test_what_the_disk_does_not_take_is_not_told_until_it_does(slow_journal: SqliteJournal, disk: Disk) -> None:
    slow_journal.post(a_claim(), Status.VALIDATING)
    disk.error = OSError(5, "Input/output error")

    with pytest.raises(JournalError):
        slow_journal.undelivered()
    disk.error = None

    assert [(JOB_ID, 1, 1, Status.VALIDATING)] == waiting(slow_journal)
    assert ["journal.sqlite-wal"] == disk.synced


def test_what_an_earlier_process_did_not_wait_for_is_on_disk_before_it_is_told(path: Path, disk: Disk) -> None:
    with closing(SqliteJournal(path)) as killed:
        held(killed)
        killed.post(a_claim(), Status.VALIDATING)

        with closing(SqliteJournal(path, sync=disk.sync)) as next_one:
            told = waiting(next_one)

    assert ([(JOB_ID, 1, 1, Status.VALIDATING)], ["journal.sqlite-wal"]) == (told, disk.synced)


# ------------------------------------------------------------------------------------ the outbox


def test_statuses_of_a_job_are_sent_one_after_the_other_with_their_number(journal: SqliteJournal) -> None:
    held(journal)
    for status in WAY:
        journal.post(a_claim(), status)

    first = waiting(journal)

    assert [(JOB_ID, 1, n, status) for n, status in enumerate(WAY, start=1)] == first
    assert [(JOB_ID, n, status) for n, status in enumerate(WAY, start=1)] == sent(journal)
    assert [Status.CLAIMED, *WAY] == journal.statuses(a_claim())


def test_what_waits_is_in_the_order_in_which_it_was_posted(journal: SqliteJournal) -> None:
    for job_id in ("a", "b"):
        held(journal, job_id)
    journal.post(a_claim("a"), Status.VALIDATING)
    journal.post(a_claim("b"), Status.VALIDATING)
    journal.post(a_claim("a"), Status.RUNNING)

    assert [("a", 1, Status.VALIDATING), ("b", 1, Status.VALIDATING), ("a", 2, Status.RUNNING)] == sent(journal)


def test_a_message_and_its_detail_come_out_as_they_went_in(journal: SqliteJournal) -> None:
    held(journal)
    detail = {"reason": "invalid_input", "outcome": {"mean": 0.5, "rows": [1, None, "ü\U0001f600"]}}

    journal.post(a_claim(), Status.FAILED, message="line one\nline two 'quoted'", detail=detail)

    (posted,) = journal.undelivered()
    assert "line one\nline two 'quoted'" == posted.update.message
    assert detail == posted.update.detail


@pytest.mark.parametrize(
    ("after", "status"),
    [
        ((), Status.RUNNING),
        ((), Status.CLAIMED),
        ((), Status.COMPLETED),
        (WAY[:1], Status.VALIDATING),
        (WAY[:2], Status.VALIDATING),
        (WAY[:2], Status.COMPLETED),
        (WAY, Status.FAILED),
        (WAY, Status.COMPLETED),
        ((Status.PENDING,), Status.VALIDATING),
        ((Status.FAILED,), Status.CANCELED),
        ((), Status.UNKNOWN),
    ],
)
def test_a_status_that_may_not_follow_is_not_written(
    journal: SqliteJournal, after: tuple[Status, ...], status: Status
) -> None:
    held(journal)
    for before in after:
        journal.post(a_claim(), before)

    with pytest.raises(IllegalTransition):
        journal.post(a_claim(), status)

    assert [Status.CLAIMED, *after] == journal.statuses(a_claim())


def test_after_a_refusal_nothing_more_of_that_attempt_is_sent(journal: SqliteJournal) -> None:
    held(journal)
    held(journal, "other")
    for status in WAY[:3]:
        journal.post(a_claim(), status)
    journal.post(a_claim("other"), Status.VALIDATING)
    first = journal.undelivered()[0]

    journal.refused(first, "superseded")

    assert [("other", 1, 1, Status.VALIDATING)] == waiting(journal)


def test_a_new_attempt_counts_from_one_and_knows_nothing_of_the_old(journal: SqliteJournal) -> None:
    held(journal)
    journal.post(a_claim(), Status.VALIDATING)
    journal.lose(a_claim())

    held(journal, attempt=2)
    journal.post(a_claim(attempt=2), Status.VALIDATING)

    assert [(JOB_ID, 2, 1, Status.VALIDATING)] == waiting(journal)
    assert [Status.CLAIMED, Status.VALIDATING] == journal.statuses(a_claim(attempt=2))
    assert [2] == [claim.attempt for claim in journal.held()]


def test_of_a_lost_job_nothing_is_sent_and_nothing_is_gone_on_with(journal: SqliteJournal) -> None:
    held(journal)
    journal.post(a_claim(), Status.VALIDATING)

    journal.lose(a_claim())

    assert [] == waiting(journal)
    assert [] == list(journal.held())
    assert [] == list(journal.intended())


def test_an_attempt_that_is_lost_takes_nothing_from_a_later_one(journal: SqliteJournal) -> None:
    held(journal)
    held(journal, attempt=2)
    journal.post(a_claim(attempt=2), Status.VALIDATING)

    journal.lose(a_claim(attempt=1))

    assert [(JOB_ID, 2, 1, Status.VALIDATING)] == waiting(journal)
    assert [2] == [claim.attempt for claim in journal.held()]


def test_a_claim_that_is_not_granted_takes_no_words_from_an_earlier_one(journal: SqliteJournal) -> None:
    held(journal)
    journal.post(a_claim(), Status.FAILED)
    journal.intend(a_job(), "another key")

    journal.not_granted(JOB_ID)

    assert [(JOB_ID, 1, 1, Status.FAILED)] == waiting(journal)
    assert [] == list(journal.intended())


def test_who_waits_for_a_post_is_woken_by_it(journal: SqliteJournal) -> None:
    held(journal)
    began, found = threading.Event(), []

    def wait() -> None:
        began.set()
        journal.wait_for_post(10)
        found.append(waiting(journal))

    waiter = threading.Thread(target=wait)
    waiter.start()
    began.wait(10)
    journal.post(a_claim(), Status.VALIDATING)
    waiter.join(5)

    assert [[(JOB_ID, 1, 1, Status.VALIDATING)]] == found


def test_what_gathers_is_waited_for_until_a_last_word_comes(journal: SqliteJournal) -> None:
    held(journal)
    journal.post(a_claim(), Status.VALIDATING)
    found: list[list[tuple[str, int, int, Status]]] = []

    def gather() -> None:
        journal.gather(10)
        found.append(waiting(journal))

    waiter = threading.Thread(target=gather)
    waiter.start()
    for status in WAY[1:]:
        journal.post(a_claim(), status)
    waiter.join(5)

    assert [[(JOB_ID, 1, n, status) for n, status in enumerate(WAY, start=1)]] == found


@pytest.mark.parametrize("last", [Status.FAILED, Status.CANCELED, Status.PENDING, None], ids=str)
def test_a_last_word_and_nothing_at_all_wait_for_no_other(journal: SqliteJournal, last: Status | None) -> None:
    held(journal)
    if last is not None:
        journal.post(a_claim(), last)
    waiter = threading.Thread(target=journal.gather, args=[60])

    waiter.start()
    waiter.join(5)

    assert not waiter.is_alive()


def test_who_waits_for_an_empty_outbox_is_woken_by_the_last_delivery(journal: SqliteJournal) -> None:
    held(journal)
    journal.post(a_claim(), Status.VALIDATING)
    found: list[bool] = []
    waiter = threading.Thread(target=lambda: found.append(journal.wait_until_empty(10)))
    waiter.start()

    is_empty_now = journal.wait_until_empty(0)
    sent(journal)
    waiter.join(5)

    assert not is_empty_now
    assert [True] == found


# ------------------------------------------------------------------------------------ the claims


def test_a_claim_whose_answer_never_came_is_known_with_its_key(journal: SqliteJournal) -> None:
    journal.intend(a_job("a"), "key-a")
    journal.intend(a_job("b"), "key-b")
    journal.hold(a_claim("b"))

    assert [(a_job("a"), "key-a")] == list(journal.intended())
    assert [a_claim("b")] == list(journal.held())


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED, Status.PENDING])
def test_a_job_that_ended_is_not_gone_on_with(journal: SqliteJournal, status: Status) -> None:
    """A release ends it here as well."""
    held(journal)

    journal.post(a_claim(), status)

    assert [] == list(journal.held())
    assert [(JOB_ID, 1, 1, status)] == waiting(journal)


def test_an_upload_is_known_by_the_digest_of_its_file(journal: SqliteJournal, tmp_path: Path) -> None:
    held(journal)
    first = a_result_file(tmp_path, content=b"first")
    second = a_result_file(tmp_path, content=b"second")

    journal.note_upload(a_claim(), first, "remote-1")
    journal.note_upload(a_claim(), second, "remote-2")

    assert {"output.jsonl": second.sha256} == journal.uploaded(a_claim())
    assert {} == journal.uploaded(a_claim(attempt=2))


def test_the_agents_id_is_remembered(journal: SqliteJournal) -> None:
    before = journal.agent_id()

    journal.remember_agent("first")
    journal.remember_agent("second")

    assert before is None
    assert "second" == journal.agent_id()


def _intended(journal: SqliteJournal) -> None:
    journal.intend(a_job(), "key")


def _held(journal: SqliteJournal) -> None:
    held(journal)


def _lost(journal: SqliteJournal) -> None:
    held(journal)
    journal.lose(a_claim())


def _completed(journal: SqliteJournal) -> None:
    held(journal)
    for status in WAY:
        journal.post(a_claim(), status)


def _completed_and_delivered(journal: SqliteJournal) -> None:
    _completed(journal)
    sent(journal)


def _failed_and_delivered(journal: SqliteJournal) -> None:
    held(journal)
    journal.post(a_claim(), Status.FAILED)
    sent(journal)


@pytest.mark.parametrize(
    ("arrange", "is_needed", "is_needed_after_a_day"),
    [
        (lambda _journal: None, False, False),
        (_intended, True, True),
        (_held, True, True),
        (_lost, True, False),
        (_completed, True, True),
        (_completed_and_delivered, False, False),
        (_failed_and_delivered, True, False),
    ],
    ids=["unknown", "intended", "held", "lost", "completed", "completed, delivered", "failed, delivered"],
)
def test_a_folder_is_needed_as_long_as_somebody_may_ask_for_it(
    path: Path, arrange: Callable[[SqliteJournal], None], is_needed: bool, is_needed_after_a_day: bool
) -> None:
    with closing(SqliteJournal(path)) as journal:
        arrange(journal)
        now = journal.is_needed(JOB_ID)
    a_day_ago = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE claim SET changed_at = ?", (a_day_ago,))
    with closing(SqliteJournal(path)) as journal:
        later = journal.is_needed(JOB_ID)

    assert (is_needed, is_needed_after_a_day) == (now, later)


# ------------------------------------------------------------------------------------ the file


def test_everything_is_there_when_the_file_is_opened_again(path: Path, tmp_path: Path) -> None:
    file = a_result_file(tmp_path)
    with closing(SqliteJournal(path)) as journal:
        journal.remember_agent("agent-1")
        held(journal)
        journal.intend(a_job("b"), "key-b")
        for status in WAY[:2]:
            journal.post(a_claim(), status)
        journal.note_upload(a_claim(), file, "remote-1")

    with closing(SqliteJournal(path)) as journal:
        assert "agent-1" == journal.agent_id()
        assert [a_claim()] == list(journal.held())
        assert [(a_job("b"), "key-b")] == list(journal.intended())
        assert {file.name: file.sha256} == journal.uploaded(a_claim())
        assert [(JOB_ID, 1, Status.VALIDATING), (JOB_ID, 2, Status.RUNNING)] == sent(journal)


def test_the_file_is_for_its_owner_only(journal: SqliteJournal, path: Path) -> None:
    assert 0o600 == path.stat().st_mode & 0o777


def test_the_pragmas_hold(journal: SqliteJournal) -> None:
    """`synchronous=FULL` is what makes a commit survive a power cut."""
    assert {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000} == PRAGMAS
    for name, wanted in PRAGMAS.items():
        assert wanted == journal._db.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path) -> None:
    path.write_bytes(b"this is not a database, and it is longer than a header" * 100)
    aside: list[Path] = []

    with closing(SqliteJournal(path, on_set_aside=aside.append)) as journal:
        held(journal)

    assert [path.parent] == [found.parent for found in aside]
    assert aside[0].name.startswith("journal.sqlite.corrupt-")
    assert aside[0].read_bytes().startswith(b"this is not a database")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outbox SET detail = '{bad' WHERE fate IS NULL",
        "UPDATE outbox SET status = 'Dancing' WHERE fate IS NULL",
        "UPDATE claim SET document = '{}'",
        "UPDATE claim SET document = CAST(x'ff' AS TEXT)",
        "DROP TABLE upload",
    ],
)
def test_content_that_cannot_be_read_is_set_aside_at_the_start(path: Path, damage: str) -> None:
    """Not in the middle of the work, and not as an agent that never starts again."""
    with closing(SqliteJournal(path)) as journal:
        held(journal)
        journal.post(a_claim(), Status.VALIDATING)
    with closing(sqlite3.connect(path)) as db:
        db.execute(damage)
        db.commit()
    aside: list[Path] = []

    with closing(SqliteJournal(path, on_set_aside=aside.append)) as journal:
        assert [] == list(journal.held())

    assert 1 == len(aside)


def test_an_attempt_that_is_granted_again_after_its_end_is_only_told_again(path: Path) -> None:
    with closing(SqliteJournal(path)) as journal:
        held(journal)
        claim = a_claim()
        journal.post(claim, Status.FAILED)
        journal.delivered(journal.undelivered()[0])
        journal.intend(claim.job, "another key")

        is_to_be_run = journal.hold(claim)

        assert not is_to_be_run
        assert [Status.FAILED] == [posted.update.status for posted in journal.undelivered()]
        assert [] == list(journal.held())


def test_a_page_that_was_overwritten_is_noticed(path: Path) -> None:
    with closing(SqliteJournal(path)) as journal:
        for number in range(50):
            held(journal, f"job-{number}")
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 3] = b"\xff" * (4096 * 2)
    path.write_bytes(content)
    aside: list[Path] = []

    with closing(SqliteJournal(path, on_set_aside=aside.append)) as journal:
        found = list(journal.held())

    assert 1 == len(aside)
    assert [] == found


def test_a_file_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("CREATE TABLE from_the_future (x)")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        db.commit()
    before = path.read_bytes()

    with pytest.raises(JournalError, match=f"written by a newer version \\(schema {SCHEMA_VERSION + 1}\\)"):
        SqliteJournal(path)

    assert before == path.read_bytes()
    with closing(sqlite3.connect(path)) as db:
        assert [("from_the_future",)] == db.execute("SELECT name FROM sqlite_master").fetchall()
    assert [] == list(path.parent.glob("*.corrupt-*"))


def test_a_file_that_cannot_be_opened_is_an_error_and_not_a_new_journal(tmp_path: Path) -> None:
    folder = tmp_path / "journal.sqlite"
    folder.mkdir()

    with pytest.raises(JournalError, match=r"journal.sqlite cannot be opened"):
        SqliteJournal(folder)

    assert folder.is_dir()


def test_a_full_disk_is_an_error_and_what_was_written_stays(journal: SqliteJournal) -> None:
    held(journal)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(JournalError, match="the journal cannot be written: database or disk is full"):
        journal.post(a_claim(), Status.VALIDATING, message="x" * 100_000)
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.post(a_claim(), Status.VALIDATING)

    assert [(JOB_ID, 1, 1, Status.VALIDATING)] == waiting(journal)


def test_many_threads_write_without_losing_or_mixing(journal: SqliteJournal) -> None:
    jobs = [f"job-{number}" for number in range(8)]
    start = threading.Barrier(len(jobs))

    def live(job_id: str) -> None:
        start.wait(10)
        held(journal, job_id)
        for status in WAY:
            journal.post(a_claim(job_id), status)

    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(live, jobs))

    order = sent(journal)
    for job_id in jobs:
        assert list(enumerate(WAY, start=1)) == [(n, status) for found, n, status in order if found == job_id]
    assert len(jobs) * len(WAY) == len(order)


WRITER = """
import sys
from pathlib import Path
from agent_parts import a_claim, a_job
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status

journal = SqliteJournal(Path(sys.argv[1]))
number = 0
while True:
    job_id = f"job-{number}"
    journal.intend(a_job(job_id), "key")
    journal.hold(a_claim(job_id))
    journal.post(a_claim(job_id), Status.VALIDATING)
    print(job_id, flush=True)
    number += 1
"""


@pytest.mark.parametrize("lines", [1, 7, 40])
def test_what_a_killed_writer_had_acknowledged_is_there(path: Path, lines: int) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1], text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(lines)]
        writer.kill()
        acknowledged += writer.stdout.read().split()

    with closing(SqliteJournal(path)) as journal:
        known = {claim.job.id for claim in journal.held()}
        posted = {job_id for job_id, _, _, _ in waiting(journal)}

    assert lines <= len(acknowledged)
    assert set() == set(acknowledged) - known
    assert set() == set(acknowledged) - posted


def test_a_copy_of_the_file_and_its_log_taken_while_it_is_open_can_be_opened(
    journal: SqliteJournal, path: Path, tmp_path: Path
) -> None:
    """As a power cut leaves it: nothing was closed, nothing was checkpointed."""
    held(journal)
    journal.post(a_claim(), Status.VALIDATING)
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in path.parent.glob("journal.sqlite*"):
        shutil.copy(part, copy / part.name)

    with closing(SqliteJournal(copy / path.name)) as reopened:
        assert [(JOB_ID, 1, 1, Status.VALIDATING)] == waiting(reopened)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_file_of_an_older_version_is_opened_with_all_that_it_holds(
    path: Path, tmp_path: Path, version: int
) -> None:
    """Made of the steps that led to that version, as whoever released it left it."""
    with closing(SqliteJournal(tmp_path / "newest.sqlite")) as newest:
        held(newest)
        newest.post(a_claim(), Status.VALIDATING)
        newest.note_upload(a_claim(), a_result_file(tmp_path / "out"), "artifact-1")
        newest.remember_agent("agent-1")
    with closing(sqlite3.connect(path)) as db:
        db.executescript("".join(STEPS[:version]) + f"PRAGMA user_version = {version};")
        db.execute("ATTACH ? AS newest", (str(tmp_path / "newest.sqlite"),))
        for table in ("identity", "claim", "outbox", "upload"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
            db.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM newest.{table}")  # noqa: S608
        db.commit()

    with closing(SqliteJournal(path)) as opened:
        found = (opened.held(), waiting(opened), list(opened.uploaded(a_claim())), opened.agent_id())
        opened.note_log(a_claim(), 7, is_owed=True)
        is_owed = [each.base_bytes for each in opened.owed_logs()]

    assert ([a_claim()], [(JOB_ID, 1, 1, Status.VALIDATING)], ["output.jsonl"], "agent-1") == found
    assert [7] == is_owed
