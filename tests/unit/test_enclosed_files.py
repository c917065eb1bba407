"""Small result files go with the last word of their job: each is stored once, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from agent_parts import a_result_file
from daemon_parts import Daemon, down, unauthorized
from overmind_agent.errors import RejectedError
from overmind_agent.jobs import Claim, NoJob, Result, ResultFile, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Workspace
from overmind_agent.testing import AFTER, FakeServer, conflict

Start = Callable[..., Daemon]

WAY = [Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.COMPLETED]
LARGE = 150 * 1024


@pytest.fixture(autouse=True)
def takes_enclosed(server: FakeServer) -> None:
    server.takes_enclosed = True


def making(*contents: bytes, is_required: bool = True) -> Callable[[Workspace], Result]:
    """Work that leaves files of these contents."""

    def work(workspace: Workspace) -> Result:
        made = [a_result_file(workspace.output, f"{number}.jsonl", it) for number, it in enumerate(contents)]
        return Result(tuple(_as(file, is_required=is_required) for file in made))

    return work


def _as(file: ResultFile, *, is_required: bool) -> ResultFile:
    return ResultFile(file.name, file.path, file.size_bytes, file.sha256, is_required=is_required)


def claimed(daemon: Daemon, server: FakeServer) -> Claim:
    server.submit()
    job = daemon.plane.next_job(wait_s=0)
    assert not isinstance(job, NoJob)
    key = f"key-{job.id}"
    daemon.journal.intend(job, key)
    claim = daemon.plane.claim(job, key=key)
    daemon.journal.hold(claim)
    return claim


def ended(daemon: Daemon, server: FakeServer, files: Sequence[ResultFile]) -> Claim:
    """A job of which nothing is said yet, with *files* in its last word."""
    claim = claimed(daemon, server)
    declared = [{"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files]
    for status in WAY[:2]:
        daemon.journal.post(claim, status)
    daemon.journal.post(claim, WAY[2], detail={"files": declared})
    daemon.journal.post(claim, WAY[3], files=files)
    server.calls.clear()
    return claim


def stored(server: FakeServer, job_id: str) -> list[tuple[str, bytes]]:
    return sorted((name, content) for (name, _), content in server.jobs[job_id].files.items())


# ------------------------------------------------------------------------------------ what goes with it


def test_a_short_job_is_told_with_its_files_in_one_exchange(daemon: Daemon, server: FakeServer) -> None:
    job_id = server.submit()
    daemon.launcher.work = making(b"one", b"two")
    daemon.job()
    server.calls.clear()

    daemon.delivery.deliver()

    assert ["report_together", *["report"] * 4] == server.calls
    assert WAY == server.jobs[job_id].history[2:]
    assert [("0.jsonl", b"one"), ("1.jsonl", b"two")] == stored(server, job_id)


@pytest.mark.parametrize(
    ("work", "takes_enclosed"),
    [
        (making(bytes(LARGE), bytes(LARGE)), True),
        (making(b"one", is_required=False), True),
        (making(b"one"), False),
    ],
    ids=["large", "best effort", "older server"],
)
def test_other_files_are_stored_before_the_last_word(
    daemon: Daemon, server: FakeServer, work: Callable[[Workspace], Result], *, takes_enclosed: bool
) -> None:
    server.submit()
    server.takes_enclosed = takes_enclosed
    daemon.launcher.work = work

    daemon.job()

    assert "upload" in server.calls
    assert [None] * 4 == [posted.update.enclosed for posted in daemon.journal.undelivered()]


def test_a_file_that_was_changed_fails_the_job_before_anything_is_said_of_it(
    daemon: Daemon, server: FakeServer
) -> None:
    job_id = server.submit()

    def work(workspace: Workspace) -> Result:
        result = making(b"one")(workspace)
        result.files[0].path.write_bytes(b"two")
        return result

    daemon.launcher.work = work
    ended = daemon.job()
    daemon.delivery.deliver()

    assert (Status.FAILED, "output_changed") == (ended.status, ended.reason)
    assert [Status.VALIDATING, Status.RUNNING, Status.FAILED] == server.jobs[job_id].history[2:]


def test_a_job_that_is_asked_to_stop_in_its_last_moment_says_nothing_of_its_end(
    daemon: Daemon, server: FakeServer
) -> None:
    """Its files are stored first, as ever, and that can be stopped."""
    server.submit()

    def work(workspace: Workspace) -> Result:
        daemon.asking_to_stop(StopReason.AGENT_STOPPING)
        return making(b"one")(workspace)

    daemon.launcher.work = work

    assert daemon.job().status is None
    assert WAY[:3] == [posted.update.status for posted in daemon.journal.undelivered()]


# ------------------------------------------------------------------------------------ on their way


@pytest.mark.parametrize("error", [AFTER, down("report_together")], ids=["lost answer", "outage"])
def test_after_an_outage_they_go_again_and_are_stored_once(
    daemon: Daemon, server: FakeServer, tmp_path: object, error: Exception
) -> None:
    claim = ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])
    server.script("report_together", error)

    waits = [daemon.delivery.deliver() for _ in range(2)]

    assert waits[0] > 0
    assert 0.0 == waits[1]
    assert WAY == server.jobs[claim.job.id].history[2:]
    assert [("output.jsonl", b"one")] == stored(server, claim.job.id)


def test_they_survive_a_restart(daemon: Daemon, server: FakeServer) -> None:
    claim = ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])

    again = daemon.again()
    again.delivery.deliver()
    again.close()

    assert WAY == server.jobs[claim.job.id].history[2:]
    assert [("output.jsonl", b"one")] == stored(server, claim.job.id)


def test_they_survive_a_move_of_the_state_folder(daemon: Daemon, server: FakeServer) -> None:
    claim = ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])
    daemon.journal.close()
    daemon.folder = daemon.folder.rename(daemon.folder.with_name("elsewhere"))

    again = daemon.again()
    again.delivery.deliver()
    again.close()

    assert [("output.jsonl", b"one")] == stored(server, claim.job.id)


def test_of_many_only_as_many_go_at_once_as_the_server_takes(daemon: Daemon, server: FakeServer) -> None:
    content = bytes(LARGE)
    claims = [
        ended(daemon, server, [a_result_file(daemon.folder / str(number), content=content)]) for number in range(3)
    ]
    server.calls.clear()

    daemon.delivery.deliver()

    assert 3 == server.calls.count("report_together")
    assert [[("output.jsonl", content)]] * 3 == [stored(server, claim.job.id) for claim in claims]


@pytest.mark.parametrize("hears_several", [True, False])
def test_a_server_that_takes_none_any_more_gets_them_first(
    daemon: Daemon, server: FakeServer, *, hears_several: bool
) -> None:
    """An earlier version was put back while they waited."""
    claim = ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])
    server.hears_several = hears_several
    server.takes_enclosed = False
    if hears_several:
        refused = RejectedError("report: 422: artifacts: not known", verb="report", http_status=422)
        server.script("report", *[lambda: None] * 3, refused)

    daemon.delivery.deliver()

    assert server.calls.index("upload") < len(server.calls) - 1
    assert WAY == server.jobs[claim.job.id].history[2:]
    assert [("output.jsonl", b"one")] == stored(server, claim.job.id)


def test_what_a_canceled_job_had_with_its_last_word_is_kept(daemon: Daemon, server: FakeServer) -> None:
    claim = ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])
    while_heard = [lambda: None, lambda: None, lambda: None, lambda: server.cancel(claim.job.id)]
    server.script("report", *while_heard)

    daemon.delivery.deliver()

    assert Status.CANCELED is server.jobs[claim.job.id].status
    assert [("output.jsonl", b"one")] == stored(server, claim.job.id)
    assert [] == list(daemon.journal.undelivered())


def test_a_word_whose_file_is_gone_is_refused_and_the_lease_runs_out(daemon: Daemon, server: FakeServer) -> None:
    """Then another attempt finds out what is left."""
    file = a_result_file(daemon.folder / "a", content=b"one")
    claim = ended(daemon, server, [file])
    file.path.unlink()

    daemon.delivery.deliver()

    assert WAY[:3] == server.jobs[claim.job.id].history[2:]
    assert [Status.COMPLETED] == [parked.update.status for parked in daemon.journal.parked()]


def test_a_token_that_is_not_accepted_is_no_word_about_files(daemon: Daemon, server: FakeServer) -> None:
    ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])
    server.script("report_together", unauthorized("report_together"))

    daemon.delivery.deliver()

    assert ["report_together"] == server.calls
    assert 4 == len(daemon.journal.undelivered())


def test_when_files_are_refused_one_by_one_so_is_the_word(daemon: Daemon, server: FakeServer) -> None:
    claim = ended(daemon, server, [a_result_file(daemon.folder / "a", content=b"one")])
    server.script("report", *[lambda: None] * 3, conflict("report", "superseded"))
    server.script("upload", conflict("upload", "superseded"))

    daemon.delivery.deliver()

    assert [] == stored(server, claim.job.id)
    assert [Status.COMPLETED] == [parked.update.status for parked in daemon.journal.parked()]
