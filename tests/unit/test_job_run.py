"""The life of a claimed job: every way in which it can end, and going on where it was cut off."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent_parts import a_result_file
from daemon_parts import SECRET, Daemon, FakeLauncher, down, two_files, unauthorized
from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    ExecutorError,
    IllegalTransition,
    InvalidInput,
    JobError,
    JournalError,
    ProtocolError,
    RejectedError,
    Stopped,
    UploadError,
)
from overmind_agent.jobs import Progress, Result, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Workspace
from overmind_agent.testing import AFTER, FakeServer, VirtualClock, conflict
from overmind_agent.uploading import PARTIAL_S
from overmind_executors.contract import InvalidParameters, Problem

C, V, R, U = Status.CLAIMED, Status.VALIDATING, Status.RUNNING, Status.UPLOADING
DONE, FAILED, CANCELED, PENDING = Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.PENDING
Start = Callable[..., Daemon]


def raising(error: BaseException) -> FakeLauncher:
    """Work that ends like this."""

    def work(_workspace: Workspace) -> Result:
        raise error

    return FakeLauncher(work)


def wrong_parameters(_job_type: str, _parameters: object) -> object:
    raise InvalidParameters(Problem("target.model", "field required"), Problem("rows", "must not be empty"))


def history(server: FakeServer, job_id: str) -> list[Status]:
    """What the control plane heard, without the beginning."""
    assert [PENDING, C] == server.jobs[job_id].history[:2]
    return server.jobs[job_id].history[2:]


def test_a_job_goes_through_every_status_and_its_files_are_stored(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit("inference", {"prompt": "p"}, input_bytes=b"rows")

    ended = daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    job = server.jobs[job_id]
    assert (DONE, None, {"mean": 0.5}) == (ended.status, ended.reason, ended.outcome)
    assert ["output.jsonl", "summary.json"] == [file.name for file in ended.files]
    assert [V, R, U, DONE] == history(server, job_id)
    assert [b'{"row": 1}\n', b'{"mean": 0.5}\n'] == list(job.files.values())
    counts = {"sent_bytes": 8, "left_bytes": 0, "lost_bytes": 0}
    assert {"outcome": {"mean": 0.5}, "log": counts} == job.updates[-1].detail
    assert [({"prompt": "p"}, b"rows")] == daemon.launcher.seen
    assert b"working\n" == job.log
    assert [V, R, R, U, U, U, DONE] == daemon.seen


def test_files_are_declared_before_they_are_sent(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()

    daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    uploading = server.jobs[job_id].updates[2]
    assert U is uploading.status
    assert [name for name, _ in server.jobs[job_id].files] == [f["name"] for f in uploading.detail["files"]]
    assert {"name", "size_bytes", "sha256"} == set(uploading.detail["files"][0])


def test_the_last_word_is_in_the_journal_before_anything_is_sent(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    held = daemon.claimed()

    daemon.run(held)

    assert [C, V, R, U, DONE] == list(daemon.journal.statuses(held.claim))
    assert [] == history(server, job_id)


# ------------------------------------------------------------------------------------ the ends


@pytest.mark.parametrize(
    ("stop", "status", "reason", "posted", "is_still_held"),
    [
        (StopReason.USER_REQUEST, CANCELED, None, [V, R, CANCELED], False),
        (StopReason.TIMEOUT, FAILED, "timeout", [V, R, FAILED], False),
        (StopReason.AGENT_STOPPING, PENDING, "agent_stopping", [V, R, PENDING], False),
        (StopReason.LEASE_LOST, None, "lease_lost", [V, R], True),
    ],
)
def test_work_that_was_stopped_ends_for_its_reason(
    start: Start,
    server: FakeServer,
    stop: StopReason,
    status: Status | None,
    reason: str | None,
    posted: list[Status],
    is_still_held: bool,
) -> None:
    daemon = start(launcher=raising(Stopped(stop)))
    job_id = server.submit()

    ended = daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    assert (status, reason) == (ended.status, ended.reason)
    assert posted == history(server, job_id)
    assert is_still_held == bool(daemon.journal.held())


def leaving(error: BaseException) -> FakeLauncher:
    """Work that leaves a part of its result, and ends like this."""

    def work(workspace: Workspace) -> Result:
        a_result_file(workspace.output, f"output-{SECRET}.jsonl", b'{"row": 1}\n')
        raise error

    return FakeLauncher(work)


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (ExecutorError("it broke"), ["partial-output-[redacted].jsonl"]),
        (RuntimeError("a bug"), ["partial-output-[redacted].jsonl"]),
        (Stopped(StopReason.USER_REQUEST), ["partial-output-[redacted].jsonl"]),
        (Stopped(StopReason.TIMEOUT), ["partial-output-[redacted].jsonl"]),
        (Stopped(StopReason.AGENT_STOPPING), []),
        (Stopped(StopReason.LEASE_LOST), []),
    ],
    ids=str,
)
def test_what_a_job_left_that_ended_badly_is_sent(
    start: Start, server: FakeServer, error: BaseException, names: list[str]
) -> None:
    """One that is given back goes on elsewhere, and one that is lost is somebody else's."""
    daemon = start(launcher=leaving(error))
    job_id = server.submit()

    daemon.run(daemon.claimed())

    assert names == [name for name, _ in server.jobs[job_id].files]


@pytest.mark.parametrize(
    "trouble", [down("upload"), unauthorized("upload"), conflict("upload", "superseded")], ids=str
)
def test_what_a_job_left_is_not_insisted_on(start: Start, server: FakeServer, trouble: Exception) -> None:
    daemon = start(launcher=leaving(ExecutorError("it broke")))
    job_id = server.submit()
    server.script("upload", trouble)

    ended = daemon.run(daemon.claimed())

    assert (FAILED, "executor_error") == (ended.status, ended.reason)
    assert (1, {}) == (server.calls.count("upload"), server.jobs[job_id].files)


def test_what_a_job_left_holds_up_its_last_word_for_so_long_only(
    start: Start, server: FakeServer, clock: VirtualClock
) -> None:
    def work(workspace: Workspace) -> Result:
        for name in ("a", "b"):
            a_result_file(workspace.output, name)
        raise ExecutorError("it broke")

    daemon = start(launcher=FakeLauncher(work))
    job_id = server.submit()
    server.script("upload", lambda: clock.advance(PARTIAL_S))

    assert FAILED is daemon.run(daemon.claimed()).status
    assert ["partial-a"] == [name for name, _ in server.jobs[job_id].files]


def a_trace(workspace: Workspace) -> Result:
    """A result without which the job is complete, and one with."""
    trace = replace(a_result_file(workspace.output, "trace.json"), is_required=False)
    return Result((trace, a_result_file(workspace.output, "output.jsonl")))


@pytest.mark.parametrize(
    "trouble",
    [
        UploadError("gone", reason="output_missing"),
        RejectedError("upload: 400", verb="upload", http_status=400),
        down("upload"),
    ],
    ids=["gone", "rejected", "outage"],
)
def test_a_file_that_is_not_required_is_left_when_it_does_not_go(
    start: Start, server: FakeServer, clock: VirtualClock, trouble: Exception
) -> None:
    def fail_late() -> None:
        clock.advance(PARTIAL_S + 1)
        raise trouble

    daemon = start(launcher=FakeLauncher(a_trace))
    job_id = server.submit()
    server.script("upload", fail_late)

    daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    job = server.jobs[job_id]
    assert DONE is job.status
    assert ["output.jsonl"] == [name for name, _ in job.files]
    assert ["output.jsonl"] == [file["name"] for file in job.updates[2].detail["files"]]


def test_a_result_that_cannot_be_uploaded_is_not_sent_in_parts(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    server.script("upload", UploadError("gone", reason="output_missing"))

    assert "output_missing" == daemon.run(daemon.claimed()).reason
    assert {} == server.jobs[job_id].files


def test_every_reason_to_stop_has_its_end() -> None:
    assert {"user_request", "host_request", "agent_stopping", "lease_lost", "timeout"} == {
        reason.value for reason in StopReason
    }


def test_a_canceled_job_carries_no_error_text(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=raising(Stopped(StopReason.USER_REQUEST)))
    job_id = server.submit()

    daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    last = server.jobs[job_id].updates[-1]
    assert (CANCELED, None, ["log"]) == (last.status, last.message, list(last.detail))


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (JobError("no"), "job_error", "no"),
        (JobError("no", reason="unknown_job_type"), "unknown_job_type", "no"),
        (InvalidInput("rows: none"), "invalid_input", "rows: none"),
        (ExecutorError("it broke"), "executor_error", "it broke"),
        (ExecutorError("killed", reason="killed_by_signal"), "killed_by_signal", "killed"),
        (UploadError("gone", reason="output_missing"), "output_missing", "gone"),
        (RejectedError("v: 400", verb="v", http_status=400), "rejected", "v: 400"),
        (RuntimeError("secret"), "internal_error", "RuntimeError in the agent"),
        (IllegalTransition("a bug"), "internal_error", "IllegalTransition in the agent"),
        (OSError("disk"), "internal_error", "on this host: disk"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "on this host: No space left on device"),
        (KeyError("k"), "internal_error", "KeyError in the agent"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_job_that_broke_fails_with_its_reason(
    start: Start, server: FakeServer, error: Exception, reason: str, message: str
) -> None:
    """What an unforeseen exception says may hold a user's data; its type is told, the rest is in the log."""
    daemon = start(launcher=raising(error))
    job_id = server.submit()

    ended = daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    job = server.jobs[job_id]
    assert (FAILED, reason, message) == (ended.status, ended.reason, ended.message)
    assert [V, R, FAILED] == history(server, job_id)
    assert (reason, f"{reason}: {message}") == (job.reason, job.updates[-1].message)


def test_parameters_that_do_not_fit_fail_the_job_before_anything_is_fetched(
    start: Start, server: FakeServer
) -> None:
    daemon = start(validate=wrong_parameters)
    job_id = server.submit(input_bytes=b"rows")

    ended = daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    assert ("invalid_input", "target.model: field required; rows: must not be empty") == (
        ended.reason,
        ended.message,
    )
    assert [V, FAILED] == history(server, job_id)
    assert 0 == daemon.launcher.runs
    assert "download" not in server.calls


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}'])
def test_parameters_that_are_not_a_json_object_fail_the_job(daemon: Daemon, server: FakeServer, raw: bytes) -> None:
    server.submit(parameters=raw)

    ended = daemon.run(daemon.claimed())

    assert (FAILED, "invalid_input") == (ended.status, ended.reason)


def test_a_long_message_is_cut(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=raising(ExecutorError("x" * 5000)))
    server.submit()

    ended = daemon.run(daemon.claimed())

    assert "x" * 1000 == ended.message


VERBS = ["read_parameters", "input_file", "download", "upload"]


@pytest.mark.parametrize("verb", VERBS)
def test_whatever_says_that_the_job_is_not_ours_ends_it_in_silence(
    daemon: Daemon, server: FakeServer, verb: str
) -> None:
    job_id = server.submit(input_bytes=b"rows")
    held = daemon.claimed()
    server.script(verb, conflict(verb, "superseded"))

    ended = daemon.run(held)
    daemon.delivery.deliver()

    assert (None, "claim_lost") == (ended.status, ended.reason)
    assert [] == history(server, job_id)
    assert [] == list(daemon.journal.held())


def test_a_log_that_is_not_taken_is_no_reason_to_stop(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()
    server.script("append_log", conflict("append_log", "superseded"))

    assert DONE is daemon.run(held).status


@pytest.mark.parametrize("verb", VERBS)
def test_a_token_that_is_refused_is_not_the_jobs_fault(daemon: Daemon, server: FakeServer, verb: str) -> None:
    """Above all not for a finished result: it is kept for the day on which there is a new token."""
    server.submit(input_bytes=b"rows")
    held = daemon.claimed()
    server.script(verb, unauthorized(verb))

    with pytest.raises(AuthError):
        daemon.run(held)

    assert [held.claim] == list(daemon.journal.held())
    assert FAILED not in daemon.journal.statuses(held.claim)


@pytest.mark.parametrize(
    ("verb", "reason"),
    [
        ("read_parameters", "rejected"),
        ("input_file", "rejected"),
        ("download", "rejected"),
        ("upload", "upload_error"),
    ],
)
def test_a_call_that_is_refused_fails_the_job(daemon: Daemon, server: FakeServer, verb: str, reason: str) -> None:
    server.submit(input_bytes=b"rows")
    held = daemon.claimed()
    server.script(verb, RejectedError(f"{verb}: 413", verb=verb, http_status=413))

    ended = daemon.run(held)

    assert (FAILED, reason, f"{verb}: 413") == (ended.status, ended.reason, ended.message)


@pytest.mark.parametrize("verb", VERBS)
def test_an_outage_only_delays_a_job(daemon: Daemon, server: FakeServer, clock: VirtualClock, verb: str) -> None:
    job_id = server.submit(input_bytes=b"rows")
    held = daemon.claimed()
    held.renew(None, sent_at_s=0)
    server.script(verb, down(verb), ProtocolError("not usable JSON"), AFTER)

    ended = daemon.run(held)
    daemon.delivery.deliver()

    assert DONE is ended.status
    assert 3 == len(clock.slept)
    assert 2 == len(server.jobs[job_id].files)


@pytest.mark.parametrize(
    ("stop", "status"),
    [(StopReason.USER_REQUEST, CANCELED), (StopReason.AGENT_STOPPING, PENDING), (StopReason.LEASE_LOST, None)],
)
@pytest.mark.parametrize("verb", ["read_parameters", "input_file", "download"])
def test_a_wish_to_stop_ends_the_waiting_for_an_outage(
    daemon: Daemon, server: FakeServer, verb: str, stop: StopReason, status: Status | None
) -> None:
    server.submit(input_bytes=b"rows")
    held = daemon.claimed()

    def fail() -> None:
        held.ask_to_stop(stop)
        raise down(verb)

    server.script(verb, fail)

    ended = daemon.run(held)

    assert status is ended.status
    assert 0 == daemon.launcher.runs


def test_a_lease_that_runs_out_in_an_outage_ends_the_work(
    daemon: Daemon, server: FakeServer, clock: VirtualClock
) -> None:
    server.submit()
    held = daemon.claimed()
    server.script("read_parameters", *[down()] * 100)

    ended = daemon.run(held)

    assert (None, "lease_lost") == (ended.status, ended.reason)
    assert 50.0 == pytest.approx(sum(clock.slept))


def test_a_cancel_between_two_uploads_ends_the_job(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    held = daemon.claimed()
    server.script("upload", lambda: held.ask_to_stop(StopReason.USER_REQUEST))

    ended = daemon.run(held)

    assert CANCELED is ended.status
    assert ["output.jsonl"] == [name for name, _ in server.jobs[job_id].files]


def test_a_cancel_that_refuses_an_upload_ends_as_a_cancel(daemon: Daemon, server: FakeServer) -> None:
    """The heartbeat may bring the news before the refusal does; either way the job was canceled, not lost."""
    job_id = server.submit()
    held = daemon.claimed()

    def cancel() -> None:
        server.cancel(job_id)
        held.ask_to_stop(StopReason.USER_REQUEST)

    server.script("upload", cancel)

    ended = daemon.run(held)
    daemon.delivery.deliver()

    assert CANCELED is ended.status
    assert CANCELED is server.jobs[job_id].status


def test_a_finished_result_is_kept_when_the_agent_stops_while_it_uploads(
    daemon: Daemon, server: FakeServer
) -> None:
    job_id = server.submit()
    held = daemon.claimed()
    server.script("upload", lambda: held.ask_to_stop(StopReason.AGENT_STOPPING))

    first = daemon.run(held)
    daemon.delivery.deliver()
    next_start = daemon.again()
    second = next_start.job()
    next_start.delivery.deliver()
    next_start.close()

    assert (None, "agent_stopping") == (first.status, first.reason)
    assert DONE is second.status
    assert [V, R, U, DONE] == history(server, job_id)
    assert 1 == daemon.launcher.runs


# ------------------------------------------------------------------------------------ going on


@pytest.mark.parametrize(
    ("verb", "step", "runs", "uploads"),
    [
        ("read_parameters", 1, 1, 2),
        ("input_file", 1, 1, 2),
        ("download", 1, 1, 2),
        ("upload", 1, 0, 2),
        ("upload", 2, 0, 1),
    ],
    ids=["validating", "validated", "fetching", "nothing is uploaded", "one file is uploaded"],
)
def test_a_job_that_was_cut_off_goes_on_where_it_was(
    daemon: Daemon, server: FakeServer, verb: str, step: int, runs: int, uploads: int
) -> None:
    """Nothing is said twice, finished work is not done again, a stored file is not sent again."""
    job_id = server.submit(input_bytes=b"rows")
    held = daemon.claimed()
    server.script(verb, *[lambda: None] * (step - 1), unauthorized(verb))
    with pytest.raises(AuthError):
        daemon.run(held)

    after = daemon.again(launcher=FakeLauncher())
    ended = after.job()
    after.delivery.deliver()
    after.close()

    assert DONE is ended.status
    assert runs == after.launcher.runs
    assert uploads == server.calls.count("upload")
    assert [V, R, U, DONE] == history(server, job_id)
    assert [1, 2, 3, 4] == [update.sequence for update in server.jobs[job_id].updates]


def test_work_that_was_cut_off_in_the_middle_is_begun_again_in_the_same_folder(
    start: Start, server: FakeServer
) -> None:
    def crash(workspace: Workspace) -> Result:
        (workspace.state / "paid").write_text("row 1")
        raise unauthorized()

    def go_on(workspace: Workspace) -> Result:
        assert "row 1" == (workspace.state / "paid").read_text()
        return two_files(workspace)

    daemon = start(launcher=FakeLauncher(crash))
    job_id = server.submit(input_bytes=b"rows")
    with pytest.raises(AuthError):
        daemon.run(daemon.claimed())

    after = daemon.again(launcher=FakeLauncher(go_on))
    ended = after.job()
    after.delivery.deliver()
    after.close()

    assert (DONE, 1) == (ended.status, after.launcher.runs)
    assert [V, R, U, DONE] == history(server, job_id)
    assert "download" not in server.calls


def test_a_job_that_comes_back_in_a_new_attempt_says_everything_again_but_works_once(
    daemon: Daemon, server: FakeServer
) -> None:
    job_id = server.submit()
    held = daemon.claimed()
    server.script("upload", unauthorized())
    with pytest.raises(AuthError):
        daemon.run(held)
    server.expire(job_id)

    after = daemon.again()
    ended = after.job()
    after.delivery.deliver()
    after.close()

    assert (DONE, 2) == (ended.status, ended.attempt)
    assert [PENDING, C, PENDING, C, V, R, U, DONE] == server.jobs[job_id].history
    assert 1 == daemon.launcher.runs


def test_a_journal_that_cannot_be_written_stops_the_job_and_says_nothing(start: Start, server: FakeServer) -> None:
    daemon = start()
    job_id = server.submit()
    held = daemon.claimed()
    pages = daemon.journal._db.execute("PRAGMA page_count").fetchone()[0]
    daemon.journal._db.execute(f"PRAGMA max_page_count = {pages}")
    daemon.launcher.work = lambda workspace: Result(two_files(workspace).files, {"long": "x" * 60_000})

    with pytest.raises(JournalError, match="full"):
        daemon.run(held)

    assert [] == history(server, job_id)


# ------------------------------------------------------------------------------------ what is told


def test_one_line_tells_the_whole_story(daemon: Daemon, server: FakeServer) -> None:
    server.submit()
    held = daemon.claimed()

    with capture_logs() as lines:
        daemon.run(held)

    (line,) = [line for line in lines if line["event"] == "job.completed"]
    assert ("info", 2, 25) == (line["log_level"], line["files"], line["size_bytes"])
    assert {"claimed", "validating", "running", "uploading"} == set(line["phases_s"])


@pytest.mark.parametrize(
    ("error", "event", "level"),
    [
        (ExecutorError("no"), "job.failed", "error"),
        (Stopped(StopReason.USER_REQUEST), "job.canceled", "info"),
        (Stopped(StopReason.AGENT_STOPPING), "job.released", "info"),
        (Stopped(StopReason.LEASE_LOST), "job.lost", "info"),
        (ClaimLost("gone", verb="v"), "job.lost", "info"),
    ],
)
def test_every_end_has_its_line(start: Start, server: FakeServer, error: Exception, event: str, level: str) -> None:
    daemon = start(launcher=raising(error))
    server.submit()
    held = daemon.claimed()

    with capture_logs() as lines:
        daemon.run(held)

    assert [level] == [line["log_level"] for line in lines if line["event"] == event]


def test_the_traceback_of_an_unforeseen_error_is_logged(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=raising(RuntimeError("boom")))
    server.submit()
    held = daemon.claimed()

    with capture_logs() as lines:
        daemon.run(held)

    assert [True] == [line["exc_info"] for line in lines if line["event"] == "job.crashed"]


def test_progress_reaches_the_heartbeat(start: Start, server: FakeServer) -> None:
    found: list[Any] = []
    daemon = start()

    def look(workspace: Workspace) -> Result:
        found.append(daemon.held_jobs.lines()[0].progress)
        return two_files(workspace)

    daemon.launcher.work = look
    server.submit()
    held = daemon.claimed()

    daemon.run(held)

    assert [Progress(1, 2, "rows")] == found
    assert Progress(2, 2, "upload summary.json") == held.progress


# ------------------------------------------------------------------------------------------ secrets


def test_no_word_about_a_job_has_a_secret_in_it(start: Start, server: FakeServer) -> None:
    """Neither in what is sent nor in what waits on disk; what is in a result file is the job's own affair."""

    def work(workspace: Workspace) -> Result:
        file = a_result_file(workspace.output, f"{SECRET}.txt", SECRET.encode())
        return Result((file,), {"said": [SECRET], SECRET: 1})

    daemon = start(launcher=FakeLauncher(work))
    job_id = server.submit()
    held = daemon.claimed()

    ended = daemon.run(held)
    waiting = (daemon.folder / "journal.sqlite-wal").read_bytes()
    daemon.delivery.deliver()

    job = server.jobs[job_id]
    assert (DONE, [SECRET.encode()]) == (ended.status, list(job.files.values()))
    assert SECRET not in repr(
        (ended.files[0].name, ended.outcome, ended.message, job.updates, next(iter(job.files))[0])
    )
    assert SECRET.encode() not in waiting


def test_files_that_differ_by_a_secret_alone_keep_names_of_their_own(start: Start, server: FakeServer) -> None:
    """The control plane takes no name twice, and the result would be lost."""

    def work(workspace: Workspace) -> Result:
        names = (f"{SECRET}.txt", f"{SECRET[::-1]}.txt", "[redacted].txt", f"{SECRET}.txt ".strip())
        made = {name: a_result_file(workspace.output, name, name.encode()) for name in names}
        return Result(tuple(made.values()))

    daemon = start(launcher=FakeLauncher(work))
    server.submit()

    ended = daemon.run(daemon.claimed())

    expected = ["[redacted].txt", f"{SECRET[::-1]}.txt", "2-[redacted].txt"]
    assert (DONE, expected) == (ended.status, [file.name for file in ended.files])


def test_no_error_and_no_progress_has_a_secret_in_it(start: Start, server: FakeServer) -> None:
    def work(_workspace: Workspace) -> Result:
        raise ExecutorError(f"cannot log in with {SECRET}")

    daemon = start(launcher=FakeLauncher(work, step_name=f"with {SECRET}"))
    job_id = server.submit()
    held = daemon.claimed()

    daemon.run(held)
    daemon.delivery.deliver()

    assert "executor_error: cannot log in with [redacted]" == server.jobs[job_id].updates[-1].message
    assert Progress(1, 2, "with [redacted]") == held.progress
