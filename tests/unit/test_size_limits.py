"""What a host takes in and gives out: no server can widen it, and the message has both numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon_parts import Daemon
from overmind_agent.host.size_limits import SizeLimits
from overmind_agent.lifecycle import Status
from overmind_agent.testing import FakeServer

Start = Callable[..., Daemon]
# The launcher of these tests leaves files of 11 and 14 bytes.
INPUT = b"12345"


@pytest.mark.parametrize(
    ("sizes", "reason", "message"),
    [
        (SizeLimits(), None, None),
        (SizeLimits(5, 25), None, None),
        (
            SizeLimits(4, None),
            "input_too_large",
            "the input has 5 bytes, more than policy.max_input_bytes of this host, 4",
        ),
        (
            SizeLimits(None, 24),
            "result_too_large",
            "the result has 25 bytes, more than policy.max_result_bytes of this host, 24",
        ),
    ],
)
def test_a_job_that_is_too_large_for_the_host_fails_and_says_so(
    start: Start, server: FakeServer, sizes: SizeLimits, reason: str | None, message: str | None
) -> None:
    job_id = server.submit(input_bytes=INPUT)
    daemon = start(sizes=sizes)

    ended = daemon.job()

    expected = Status.FAILED if reason else Status.COMPLETED
    assert (expected, reason) == (ended.status, ended.reason)
    assert message in (None, ended.message)
    assert bool(server.jobs[job_id].files) == (reason is None)


def test_a_size_that_nobody_said_is_measured_later() -> None:
    SizeLimits(4, None).check_input(None)
