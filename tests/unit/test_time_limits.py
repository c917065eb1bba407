"""Time limits: which one ran out is said, wall time moves none of them, and an outage is nobody's slowness."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from daemon_parts import Daemon, FakeLauncher, two_files
from overmind_agent.errors import RejectedError, Stopped, TransientError
from overmind_agent.host.time_limits import OutOfTime, RunningTime, TimeLimits, UploadTime, within
from overmind_agent.jobs import Ended, Result, StopReason
from overmind_agent.lifecycle import Status
from overmind_agent.testing import FakeServer, VirtualClock

Start = Callable[..., Daemon]


@pytest.mark.parametrize(
    ("job_s", "after_s", "limit"),
    [
        (None, 99, None),
        (None, 100, "running took longer than 100 s, agent.job_timeout_s of this host"),
        (500, 100, "running took longer than 100 s, agent.job_timeout_s of this host"),
        (30, 29, None),
        (30, 30, "running took longer than 30 s, the job's timeout_s"),
    ],
)
def test_the_smaller_of_the_hosts_time_and_the_jobs(
    clock: VirtualClock, job_s: float | None, after_s: float, limit: str | None
) -> None:
    time = RunningTime(TimeLimits(running_s=100), job_s, clock)

    clock.advance(after_s)

    assert limit == time.limit()


def test_progress_puts_off_the_limit_for_none(clock: VirtualClock) -> None:
    time = RunningTime(TimeLimits(running_s=100, no_progress_s=10), None, clock)

    clock.advance(9)
    time.progressed()
    clock.advance(9)
    before = time.limit()
    clock.advance(1)

    assert before is None
    assert "there was no progress for 10 s, agent.no_progress_s of this host" == time.limit()


def test_the_first_limit_that_ran_out_is_the_one(clock: VirtualClock) -> None:
    """What the executor says while it is being stopped does not undo why it is."""
    time = RunningTime(TimeLimits(running_s=100, no_progress_s=10), None, clock)
    clock.advance(10)
    first = time.limit()

    time.progressed()
    clock.advance(100)

    assert first == time.limit()


def busy() -> TransientError:
    return TransientError("503", verb="upload", http_status=503)


def nobody() -> TransientError:
    return TransientError("connection refused", verb="upload")


@pytest.mark.parametrize(("size_bytes", "limit_s"), [(0, 900), (128 * 1024 * 100, 1000)])
def test_a_large_file_may_take_longer(clock: VirtualClock, size_bytes: int, limit_s: float) -> None:
    time = UploadTime(TimeLimits(), size_bytes, clock)

    clock.advance(limit_s - 1)
    before = time.is_over(busy())
    clock.advance(1)

    assert [False, True] == [before, time.is_over(busy())]


def test_an_outage_does_not_count(clock: VirtualClock) -> None:
    time = UploadTime(TimeLimits(), 0, clock)

    for _ in range(100):
        clock.advance(600)
        assert not time.is_over(nobody())
    clock.advance(899)

    assert not time.is_over(busy())


def test_what_ends_in_time_is_handed_on(clock: VirtualClock) -> None:
    def refuse() -> None:
        raise RejectedError("no", verb="?")

    assert 7 == within(20, lambda: 7, "validating", clock=clock)
    with pytest.raises(RejectedError):
        within(20, refuse, "validating", clock=clock)


def test_what_does_not_end_is_left_behind(clock: VirtualClock) -> None:
    over = threading.Event()

    with pytest.raises(OutOfTime, match=r"^validating took longer than 0.05 s$"):
        within(0.05, lambda: over.wait(60), "validating", clock=clock)

    over.set()


# ------------------------------------------------------------------------------------ in the life of a job


def failed(daemon: Daemon) -> tuple[str | None, str | None]:
    ended = daemon.job()
    assert Status.FAILED is ended.status
    return ended.reason, ended.message


def test_a_job_that_is_never_validated_says_so(start: Start, server: FakeServer) -> None:
    over = threading.Event()
    server.submit()
    daemon = start(
        validate=lambda _type, _parameters: over.wait(60), limits=TimeLimits(running_s=60, validating_s=0.05)
    )

    assert ("timeout", "validating took longer than 0.05 s") == failed(daemon)
    over.set()


class Patient(FakeLauncher):
    """Lets time pass until it is asked to stop, as a child would, and then stops."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(two_files)
        self.clock = clock

    def run(self, *_args: object, stop_reason: Callable[[], object], **_more: object) -> Result:  # type: ignore[override]
        """See Launcher."""
        while (reason := stop_reason()) is None:
            self.clock.advance(1)
        assert isinstance(reason, StopReason)
        raise Stopped(reason)


@pytest.mark.parametrize(
    ("limits", "job_s", "message"),
    [
        (TimeLimits(30), None, "running took longer than 30 s, agent.job_timeout_s of this host"),
        (TimeLimits(30), 20.0, "running took longer than 20 s, the job's timeout_s"),
        (
            TimeLimits(30, no_progress_s=10),
            None,
            "there was no progress for 10 s, agent.no_progress_s of this host",
        ),
    ],
)
def test_a_job_that_runs_too_long_says_which_limit_it_was(
    start: Start, server: FakeServer, clock: VirtualClock, limits: TimeLimits, job_s: float | None, message: str
) -> None:
    server.submit(timeout_s=job_s)

    assert ("timeout", message) == failed(start(launcher=Patient(clock), limits=limits))


def test_a_file_that_is_never_taken_fails_the_job(start: Start, server: FakeServer, clock: VirtualClock) -> None:
    """The server answers, and never takes it: the slot is not held for ever."""
    server.lease_s = None
    server.submit()

    def refuse() -> None:
        clock.advance(100)
        raise busy()

    server.script("upload", *[refuse] * 20)

    reason, message = failed(start())

    assert "timeout" == reason
    assert (message or "").startswith("uploading output.jsonl took longer than 900 s: ")


def test_a_file_waits_through_an_outage_of_any_length(
    start: Start, server: FakeServer, clock: VirtualClock
) -> None:
    def away() -> None:
        clock.advance(600)
        raise nobody()

    server.lease_s = None
    server.submit()
    server.script("upload", *[away] * 100)
    daemon = start()

    ended = daemon.job()

    assert isinstance(ended, Ended)
    assert Status.COMPLETED is ended.status
