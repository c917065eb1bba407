"""Many agents at one control plane: they do not act in step, and each job has one owner."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from daemon_parts import Daemon, FakeLauncher
from overmind_agent.backoff import Backoff
from overmind_agent.errors import TransientError
from overmind_agent.jobs import Claim, Ended, NoJob, Result
from overmind_agent.lifecycle import Status
from overmind_agent.slot import Forever, Once, Slot
from overmind_agent.testing import AFTER, FakeServer, VirtualClock

AGENTS = 1000
QUIET = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
TEN_MINUTES_S = 600.0


class Idle:
    """
    A worker for which there is never a job.

    Args:
        is_held: whether the server holds a poll for as long as it may.

    Attributes:
        asked_at_s: when it asked.
    """

    def __init__(self, clock: VirtualClock, draining: threading.Event, *, is_held: bool) -> None:
        self._clock = clock
        self._draining = draining
        self._is_held = is_held
        self.asked_at_s: list[float] = []

    def step(self, *, wait_s: float) -> NoJob:
        """See Worker."""
        self.asked_at_s.append(self._clock.now_s())
        if self._clock.now_s() >= TEN_MINUTES_S:
            self._draining.set()
        self._clock.advance(wait_s if self._is_held else 0.02)
        return NoJob("no job")


def polls_of_an_idle_agent(draw: random.Random, *, is_held: bool) -> list[float]:
    """When an agent that begins at 0 asks, for ten minutes."""
    clock, draining = VirtualClock(0.0), threading.Event()
    worker = Idle(clock, draining, is_held=is_held)
    slot = Slot(
        worker,  # type: ignore[arg-type]
        Forever(draw.random),
        poll_wait_s=20.0,
        is_draining=draining.is_set,
        register=lambda: None,
        on_drain=lambda _why: None,
        on_fatal=lambda _error: None,
        clock=clock,
        log=QUIET,
        draw=draw.random,
    )
    slot.run()
    return [at_s for at_s in worker.asked_at_s if 1.0 <= at_s < TEN_MINUTES_S]


@pytest.mark.parametrize(("is_held", "most_in_a_second_of_one"), [(True, 0.1), (False, 0.25)])
def test_a_thousand_agents_that_begin_together_do_not_ask_together(
    is_held: bool, most_in_a_second_of_one: float
) -> None:
    """
    Their first question comes at once, so that a job that waits is begun; after that the busiest second has at
    most twice as many as the mean one.
    """
    draw = random.Random(7)

    asked = [second for _ in range(AGENTS) for second in map(int, polls_of_an_idle_agent(draw, is_held=is_held))]

    mean = len(asked) / (TEN_MINUTES_S - 1)
    assert max(Counter(asked).values()) <= 2 * mean
    assert mean / AGENTS <= most_in_a_second_of_one


def test_a_hundred_agents_that_were_asked_for_patience_do_not_come_back_together() -> None:
    draw = random.Random(7)
    busy = TransientError("busy", verb="next_job", http_status=429, retry_after_s=300)

    back = Counter(int(Backoff(draw.random).after(busy)) for _ in range(100))

    assert range(300, 330) == range(min(back), max(back) + 1)
    assert max(back.values()) <= 10


def test_many_starts_are_one_agent(tmp_path: Path, is_whole: bool) -> None:
    """A thousand in `make chaos`: after an end in order, after a crash, after a claim whose answer never came."""
    starts = 1000 if is_whole else 30
    server = FakeServer(VirtualClock())
    daemon = Daemon(tmp_path, server, server.clock)  # type: ignore[arg-type]
    for number in range(starts):
        if number % 10 == 0:
            server.submit()
            server.script("claim", AFTER, AFTER, AFTER)
            with suppress(TransientError):
                daemon.step()
        if number % 3 == 0:
            daemon.close()  # in order; else as a crash leaves it
        daemon = daemon.again()
    daemon.close()

    assert 1 == len(server.agents)


class CountingLauncher(FakeLauncher):
    """Counts how often each attempt at a job was begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: Counter[tuple[str, int]] = Counter()

    def run(self, claim: Claim, *parts: Any, **more: Any) -> Result:
        """See Launcher."""
        self.begun[claim.job.id, claim.attempt] += 1
        return super().run(claim, *parts, **more)


def test_of_eight_agents_that_lose_answers_to_claims_one_has_each_job(tmp_path: Path, is_whole: bool) -> None:
    """A thousand jobs in `make chaos`. One answer to a claim of ten is lost, after the server has granted it."""
    jobs = 1000 if is_whole else 60
    server = FakeServer(VirtualClock(), lease_s=1e6)
    launcher = CountingLauncher()
    daemons = []
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        daemons.append(Daemon(tmp_path / str(number), server, server.clock, launcher=launcher))  # type: ignore[arg-type]
    for _ in range(jobs):
        server.submit()
    server.script("claim", *[AFTER if number % 10 == 3 else lambda: None for number in range(2 * jobs)])

    def work(daemon: Daemon) -> None:
        while any(job.status is not Status.COMPLETED for job in server.jobs.values()):
            with suppress(TransientError):
                if isinstance(daemon.step(), NoJob):
                    daemon.clock.sleep(1)  # what was offered to somebody who is at work is offered anew
            daemon.delivery.deliver()
        daemon.close()

    with ThreadPoolExecutor(len(daemons)) as pool:
        list(pool.map(work, daemons))

    assert {1} == set(launcher.begun.values())
    assert {(job_id, 1) for job_id in server.jobs} == set(launcher.begun)
    assert {1} == {job.history.count(Status.CLAIMED) for job in server.jobs.values()}
    assert server.calls.count("claim") >= jobs + jobs // 10


def test_one_job_at_a_time_never_takes_a_second_one(tmp_path: Path, is_whole: bool) -> None:
    """`run --once`, a thousand times in `make chaos`, while more jobs wait than it may take."""
    runs = 1000 if is_whole else 30
    draw = random.Random(7)
    server = FakeServer(VirtualClock())
    daemon = Daemon(tmp_path, server, server.clock)  # type: ignore[arg-type]
    taken = []
    for _ in range(runs):
        for _ in range(draw.randint(1, 3)):
            server.submit()
        before = server.calls.count("claim")
        once = Once(daemon.clock, wait_s=draw.choice([0, 30]), reach_s=15)
        Slot(
            daemon.worker,
            once,
            poll_wait_s=20.0,
            is_draining=daemon.draining.is_set,
            register=lambda: None,
            on_drain=lambda _why: None,
            on_fatal=lambda _error: None,
            clock=daemon.clock,
            log=QUIET,
        ).run()
        taken.append((isinstance(once.step, Ended), server.calls.count("claim") - before))
    daemon.close()

    assert [(True, 1)] * runs == taken
