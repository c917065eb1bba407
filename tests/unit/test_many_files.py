"""A job with many result files: small ones go together, and whatever cannot goes alone and says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent_parts import a_result_file
from daemon_parts import Daemon, FakeLauncher, down, unauthorized
from overmind_agent.errors import AuthError, RejectedError, UploadError
from overmind_agent.files.together import FEW, MOST_FILE_BYTES
from overmind_agent.jobs import Result
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Workspace
from overmind_agent.testing import FakeServer, conflict

Start = Callable[..., Daemon]
SMALL = 250


def making(small: int, *more: tuple[str, int]) -> FakeLauncher:
    """Work that leaves so many small files, and *more* of these names and sizes."""

    def work(workspace: Workspace) -> Result:
        made = [a_result_file(workspace.output, f"{number}.json", b"%d" % number) for number in range(small)]
        made += [a_result_file(workspace.output, name, b"x" * size) for name, size in more]
        return Result(tuple(made))

    return FakeLauncher(work)


def calls(server: FakeServer) -> tuple[int, int]:
    """How many calls for several files there were, and how many files came in any call."""
    return server.calls.count("upload_together"), server.calls.count("upload")


def test_small_files_go_a_hundred_at_a_time_and_large_ones_alone(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=making(SMALL, ("large.bin", MOST_FILE_BYTES + 1)))
    job_id = server.submit()

    daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    assert Status.COMPLETED is server.jobs[job_id].status
    assert (3, SMALL + 1) == calls(server)
    assert SMALL + 1 == len(server.jobs[job_id].files)


def test_a_few_go_alone(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=making(FEW))
    server.submit()

    daemon.run(daemon.claimed())

    assert (0, FEW) == calls(server)


def test_without_the_call_all_go_alone(start: Start, server: FakeServer) -> None:
    server.takes_several = False
    daemon = start(launcher=making(SMALL))
    job_id = server.submit()

    daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    assert (Status.COMPLETED, (0, SMALL)) == (server.jobs[job_id].status, calls(server))


def test_a_refusal_of_the_call_is_made_good_file_by_file(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=making(SMALL))
    job_id = server.submit()
    too_long = RejectedError("upload_together: 413", verb="upload_together", http_status=413)
    server.script("upload_together", lambda: None, too_long)

    daemon.run(daemon.claimed())
    daemon.delivery.deliver()

    assert (Status.COMPLETED, (2, SMALL)) == (server.jobs[job_id].status, calls(server))


def test_a_file_that_is_gone_is_named(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=making(SMALL))
    server.submit()
    gone = UploadError("'7.json' is gone", reason="output_missing")
    server.script("upload", *[lambda: None] * 7, gone, *[lambda: None] * 7, gone)

    ended = daemon.run(daemon.claimed())

    assert ("output_missing", "'7.json' is gone") == (ended.reason, ended.message)


def test_an_outage_is_waited_out_and_nothing_goes_twice_after_a_restart(start: Start, server: FakeServer) -> None:
    """Killed, here by a token that is refused, after the first hundred."""
    daemon = start(launcher=making(SMALL))
    job_id = server.submit()
    server.script("upload_together", down(), lambda: None, down(), unauthorized("upload_together"))
    held = daemon.claimed()
    with pytest.raises(AuthError):
        daemon.run(held)
    stored = len(daemon.journal.uploaded(held.claim))

    after = daemon.again()
    after.run(held)
    after.delivery.deliver()
    after.close()

    assert 100 == stored
    assert (2, SMALL - 100) == calls(server)
    assert Status.COMPLETED is server.jobs[job_id].status


def test_a_job_that_is_somebody_elses_is_let_go_of(start: Start, server: FakeServer) -> None:
    daemon = start(launcher=making(SMALL))
    server.submit()
    server.script("upload_together", conflict("upload_together", "superseded"))
    server.script("upload", conflict("upload", "superseded"))

    ended = daemon.run(daemon.claimed())

    assert (None, "claim_lost") == (ended.status, ended.reason)


def test_what_the_job_can_do_without_goes_alone(start: Start, server: FakeServer) -> None:
    def work(workspace: Workspace) -> Result:
        result = making(SMALL).work(workspace)
        return Result(tuple(replace(file, is_required=False) for file in result.files))

    daemon = start(launcher=FakeLauncher(work))
    server.submit()

    daemon.run(daemon.claimed())

    assert (0, SMALL) == calls(server)
