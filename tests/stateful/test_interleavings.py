"""
A cancel against the end of a job, and a drain against a claim, in whatever order an agent's threads take turns.

`make test` tries a share of the orders, `make chaos` a thousand and five hundred.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import structlog
from interleaving import Interleaved

from daemon_parts import Daemon
from overmind_agent.errors import IllegalTransition
from overmind_agent.jobs import Ended, NoJob
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.testing import VirtualClock

CANCELS, CANCELS_SHARE = 1000, 40
DRAINS, DRAINS_SHARE = 500, 25
MOMENTS = 24  # of a job: before and after each of its calls
OTHERS = 6  # turns of the other threads in these


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(processors=[lambda *_: ""], logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@contextmanager
def _agent(folder: Path) -> Iterator[tuple[Daemon, Interleaved]]:
    clock = VirtualClock()
    server = Interleaved(clock)
    folder.mkdir()
    daemon = Daemon(folder, server, clock)
    server.moment = 0
    try:
        yield daemon, server
    finally:
        daemon.close()


def _to_the_end(daemon: Daemon) -> None:
    while isinstance(daemon.worker.step(wait_s=0), Ended):
        pass
    daemon.heartbeat.beat()
    daemon.delivery.deliver()


@pytest.mark.timeout(900)
def test_a_cancel_against_the_end_has_one_outcome(place: Path, is_whole: bool, seed: int) -> None:
    """
    Either the job was canceled, and nothing that its agent says is taken any more; or it was completed, and the
    cancel came too late. The agent's journal knows which.
    """
    ends: Counter[Status] = Counter()
    for number in range(CANCELS if is_whole else CANCELS_SHARE):
        draw = random.Random(f"cancel/{seed}/{number}")
        with _agent(place / str(number)) as (daemon, server):
            job_id = server.submit()
            too_late: list[bool] = []

            def cancel(server: Interleaved = server, job_id: str = job_id, late: list[bool] = too_late) -> None:
                try:
                    server.cancel(job_id)
                except IllegalTransition:
                    late.append(True)

            turns = (daemon.heartbeat.beat, daemon.delivery.deliver)
            acts = {draw.randint(1, MOMENTS): draw.choice(turns) for _ in range(OTHERS)}
            server.acts = {**acts, draw.randint(1, MOMENTS): cancel}
            _to_the_end(daemon)
            server.acts = {}
            with suppress(IllegalTransition):
                server.cancel(job_id)  # for those whose moment did not come: too late, then
            _to_the_end(daemon)

            job = server.jobs[job_id]
            finals = [status for status in job.history if LIFECYCLE[status].is_final]
            ends[job.status] += 1
            fate = daemon.journal.last_fate(job_id, job.attempt)
            seen = (number, job.history, fate, too_late)
            assert [job.history[-1]] == finals, seen
            assert job.status in (Status.CANCELED, Status.COMPLETED), seen
            assert (job.status is Status.COMPLETED) or not too_late, seen
            assert fate == "delivered" or job.status is Status.CANCELED, seen
            assert [] == [*daemon.journal.undelivered(), *daemon.journal.held(), *daemon.journal.intended()], seen

    assert {Status.CANCELED, Status.COMPLETED} == set(ends)


@pytest.mark.timeout(900)
def test_nothing_is_claimed_once_the_agent_drains(place: Path, is_whole: bool, seed: int) -> None:
    """The jobs at hand are finished; a claim that is on its way when the drain begins is the last one."""
    claimed: Counter[int] = Counter()
    for number in range(DRAINS if is_whole else DRAINS_SHARE):
        draw = random.Random(f"drain/{seed}/{number}")
        with _agent(place / str(number)) as (daemon, server):
            for _ in range(3):
                server.submit()
            drained_at = draw.randint(1, 2 * MOMENTS)
            acts = {draw.randint(1, 2 * MOMENTS): daemon.delivery.deliver for _ in range(OTHERS)}
            server.acts = {**acts, drained_at: daemon.draining.set}

            steps = [daemon.worker.step(wait_s=0) for _ in range(4)]

            claims = [moment for moment, verb in server.begun if verb == "claim"]
            late = [moment for moment in claims if daemon.draining.is_set() and moment > drained_at]
            claimed[len(claims)] += 1
            assert [] == late, (number, drained_at, server.begun)
            assert len(claims) == sum(isinstance(step, Ended) for step in steps), (number, steps)
            assert isinstance(steps[-1], NoJob), (number, steps)

    assert len(claimed) > 2
