"""A control plane that is away while jobs end: every result arrives, byte for byte, soon after it is back."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from agent_parts import a_result_file
from daemon_parts import Daemon, FakeLauncher, down, unauthorized
from overmind_agent.backoff import Backoff
from overmind_agent.delivery import IDLE_S
from overmind_agent.errors import ProtocolError, RejectedError, TransientError
from overmind_agent.jobs import Result
from overmind_agent.lifecycle import Status
from overmind_agent.ports import Workspace
from overmind_agent.slot import Forever, Slot
from overmind_agent.testing import FakeServer, VirtualClock

AGENTS = 10
AWAY_S = 1800.0
FILE_BYTES = 100_000


def making(content: bytes, meanwhile: Callable[[], object]) -> FakeLauncher:
    """Work that takes a while and leaves *content*."""

    def work(workspace: Workspace) -> Result:
        meanwhile()
        return Result((a_result_file(workspace.output, "output.bin", content),), {})

    return FakeLauncher(work)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("lease_s", [None, 60.0])
def test_what_ends_while_the_control_plane_is_away_is_there_a_minute_after_it_is_back(
    tmp_path: Path, lease_s: float | None
) -> None:
    """
    Ten agents with leases and ten without, half an hour. With leases they stop at the fence, ask first, and go on
    as the next attempt: the work is not done again.
    """
    draw = random.Random(7)
    late_s, sizes, runs = [], [], []
    for number in range(AGENTS):
        clock = VirtualClock()
        server = FakeServer(clock, lease_s=lease_s)
        content = draw.randbytes(FILE_BYTES)
        folder = tmp_path / f"{number}"
        folder.mkdir()

        def go_away(server: FakeServer = server, clock: VirtualClock = clock) -> None:
            server.away_until_s = clock.now_s() + AWAY_S
            clock.advance(draw.uniform(0, 40))

        launcher = making(content, go_away)
        daemon = Daemon(folder, server, clock, launcher=launcher)
        job_id = server.submit()
        waits = Backoff(draw.random)

        while server.jobs[job_id].status is not Status.COMPLETED:
            try:
                daemon.step()
            except TransientError as error:
                clock.sleep(waits.after(error))
            clock.sleep(daemon.delivery.deliver())
        daemon.close()
        late_s.append(clock.now_s() - server.away_until_s)
        sizes.append(size_of(folder / "jobs"))
        runs.append(launcher.runs)
        assert [content] == list(server.jobs[job_id].files.values())

    assert [1] * AGENTS == runs
    assert max(sizes) <= 2 * FILE_BYTES
    assert 0 < min(late_s)
    assert max(late_s) <= 60


# ------------------------------------------------------------------------------------ how often is asked


def slot_of(daemon: Daemon) -> Slot:
    return Slot(
        daemon.worker,
        Forever(),
        poll_wait_s=20.0,
        is_draining=daemon.draining.is_set,
        register=lambda: daemon.plane.register(daemon.journal.agent_id()),
        on_drain=lambda _why: None,
        on_fatal=daemon.fatal.append,
        clock=daemon.clock,
        log=structlog.get_logger(),
    )


def drained(daemon: Daemon) -> Callable[[], None]:
    """A step of a script with which all ends."""

    def drain() -> None:
        daemon.draining.set()
        daemon.clock.until.set()

    return drain


@pytest.mark.parametrize("away_s", [10.0, 3600.0, 24 * 3600.0])
def test_the_first_question_is_heard_half_a_minute_after_an_outage_of_any_length(
    daemon: Daemon, server: FakeServer, clock: VirtualClock, away_s: float
) -> None:
    server.away_until_s = clock.now_s() + away_s
    back: list[float] = []
    server.script("next_job", lambda: back.append(clock.now_s() - server.away_until_s), drained(daemon))

    slot_of(daemon).run()

    assert 0 <= back[0] <= 30


def test_an_agent_that_was_forgotten_is_known_again_within_ten_seconds(
    daemon: Daemon, server: FakeServer, clock: VirtualClock
) -> None:
    server.forget_agents()
    forgotten_s = clock.now_s()
    known: list[float] = []
    server.script("next_job", lambda: None, lambda: known.append(clock.now_s()), drained(daemon))

    slot_of(daemon).run()

    assert {daemon.journal.agent_id()} == server.agents
    assert known[0] - forgotten_s <= 10


ANSWERS = {
    "nothing": down(),
    "no JSON": ProtocolError("not usable JSON"),
    "500": TransientError("500", verb="any", http_status=500),
    "at once, please": TransientError("429", verb="any", http_status=429, retry_after_s=0),
    "400": RejectedError("400", verb="any", http_status=400),
    "404": RejectedError("404", verb="any", http_status=404),
    "401": unauthorized(),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_it_answers_a_control_plane_is_asked_less_than_twice_a_second(
    daemon: Daemon, server: FakeServer, clock: VirtualClock, answer: str
) -> None:
    """All that an agent with a job says in ten minutes: questions, heartbeats, reports. And nothing of it ends."""
    server.submit()
    held = daemon.claimed()
    daemon.journal.post(held.claim, Status.VALIDATING)
    server.calls.clear()
    for verb in ("next_job", "register", "heartbeat", "report"):
        server.script(verb, *[ANSWERS[answer]] * 10_000)
    began_s = clock.now_s()

    def on_its_own_time(turn: Callable[[], float]) -> None:
        clock.advance(began_s - clock.now_s())
        while clock.now_s() < began_s + 600:
            clock.sleep(turn() or IDLE_S)

    with daemon.held_jobs.holding(held):
        on_its_own_time(daemon.heartbeat.beat)
    on_its_own_time(daemon.delivery.deliver)
    beats_and_reports = len(server.calls)
    clock.advance(began_s - clock.now_s())
    slot = slot_of(daemon)
    is_over = daemon.draining.is_set
    slot._is_draining = lambda: is_over() or clock.now_s() >= began_s + 600
    slot.run()

    assert 10 <= len(server.calls) <= 2 * 600
    assert 0 < beats_and_reports < len(server.calls)
