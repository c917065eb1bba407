"""The loops: an error does not end one, and one that stands still is found, wherever it waits."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator

import pytest
import structlog

from overmind_agent.loops import BUSY_S, PIECE_S, RESTART_S, STILL_S, LoopClock, Pulse, Pulses, keep_going
from overmind_agent.supervisor import TICK_S
from overmind_agent.testing import VirtualClock

WAIT_S = 20
RESTARTED_BY_SYSTEMD_S = 5  # RestartSec of the unit


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def pulses(work: Work) -> Pulses:
    return Pulses(work)


@pytest.fixture
def pulse(pulses: Pulses) -> Pulse:
    """Of a loop in this thread."""
    pulse = pulses.add("worker-1")
    pulse.begin()
    return pulse


# ------------------------------------------------------------------------------------ it goes on


def failing(*errors: Exception) -> Callable[[], None]:
    """A loop that breaks with each of *errors* and then is over."""
    rest: Iterator[Exception] = iter(errors)

    def run() -> None:
        if (error := next(rest, None)) is not None:
            raise error

    return run


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), OSError(5, "input/output error"), MemoryError(), RecursionError()], ids=repr
)
def test_a_loop_that_breaks_is_back_in_a_moment(clock: VirtualClock, pulse: Pulse, error: Exception) -> None:
    with structlog.testing.capture_logs() as lines:
        keep_going(failing(error, error, error), pulse=pulse, clock=clock, log=structlog.get_logger())

    assert [RESTART_S] * 3 == clock.slept
    assert RESTART_S <= 5
    assert [("loop.failed", "worker-1")] * 3 == [(line["event"], line["loop"]) for line in lines]
    assert all(line["exc_info"] for line in lines)


def test_a_loop_that_breaks_while_all_ends_is_over(clock: VirtualClock, pulse: Pulse) -> None:
    clock.until.set()

    calls: list[bool] = []

    def run() -> None:
        calls.append(True)
        raise ValueError("cut off by the end")

    with structlog.testing.capture_logs():
        keep_going(run, pulse=pulse, clock=clock, log=structlog.get_logger())

    assert [True] == calls


def test_a_loop_that_is_over_is_not_looked_after(clock: VirtualClock, pulse: Pulse, pulses: Pulses) -> None:
    keep_going(failing(), pulse=pulse, clock=clock, log=structlog.get_logger())

    pulses.look(10 * BUSY_S)
    assert [] == pulses.late()


# ------------------------------------------------------------------------------------ it stands still


class Work:
    """How much a thread has worked, as the test has it."""

    def __init__(self) -> None:
        self.worked_s = 0.0

    def __call__(self) -> Callable[[], float]:
        return lambda: self.worked_s


class Loop:
    """A thread with a pulse that does as it is told."""

    def __init__(self, pulses: Pulses, clock: VirtualClock) -> None:
        self.pulse = pulses.add("worker-1")
        self.clock = LoopClock(clock, self.pulse)
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._done = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        assert self._done.acquire(timeout=WAIT_S)

    def do(self, what: Callable[[], object]) -> None:
        """Have it done, and wait for that."""
        self._orders.put(what)
        assert self._done.acquire(timeout=WAIT_S)

    def begin(self, what: Callable[[], object]) -> None:
        """Have it begun."""
        self._orders.put(what)

    def end(self) -> None:
        """Until the thread is gone."""
        self._orders.put(None)
        self._thread.join(WAIT_S)

    def _live(self) -> None:
        self.pulse.begin()
        self._done.release()
        while (what := self._orders.get()) is not None:
            what()
            self._done.release()


@pytest.fixture
def loop(pulses: Pulses, clock: VirtualClock) -> Iterator[Loop]:
    made = Loop(pulses, clock)
    yield made
    made.end()


def test_a_loop_that_stands_still_is_late_within_eight_seconds(loop: Loop, pulses: Pulses) -> None:
    after_s = TICK_S  # its last work may have been right after a look
    while not pulses.late():
        pulses.look(TICK_S)
        after_s += TICK_S

    assert ["worker-1"] == pulses.late()
    assert after_s <= 8


def test_one_that_stays_late_is_given_up_in_time_for_a_restart_within_a_minute(loop: Loop, pulses: Pulses) -> None:
    after_s = TICK_S
    while not pulses.stalled():
        pulses.look(TICK_S)
        after_s += TICK_S

    assert after_s + RESTARTED_BY_SYSTEMD_S <= 60


def test_a_loop_that_is_late_and_comes_back_is_well_again(loop: Loop, pulses: Pulses) -> None:
    pulses.look(STILL_S + 1)
    before = pulses.late()

    loop.do(loop.clock.now_s)

    assert ["worker-1"] == before
    assert [] == pulses.late()


def test_a_loop_that_has_not_begun_is_not_late(pulses: Pulses) -> None:
    pulses.add("worker-1")

    pulses.look(10 * BUSY_S)

    assert [] == pulses.late()


def test_work_that_gives_no_sign_is_seen_to_be_work(loop: Loop, pulses: Pulses, work: Work) -> None:
    """A large file is hashed: no clock is asked, and no server."""
    for _ in range(int(BUSY_S / TICK_S)):
        pulses.look(TICK_S)
        work.worked_s += 0.001
    assert [] == pulses.late()

    pulses.look(TICK_S)

    assert ["worker-1"] == pulses.late(), "a circle without an end looks like work, too"


@pytest.mark.parametrize("seconds", [0.0, 0.5, 15.0, 3600.0])
def test_a_loop_that_waits_for_a_server_is_not_late_before_that_must_be_over(
    loop: Loop, pulses: Pulses, seconds: float
) -> None:
    loop.do(lambda: loop.pulse.turn(seconds))

    pulses.look(seconds + STILL_S)
    at_its_limit = pulses.late()
    pulses.look(0.1)

    assert [] == at_its_limit
    assert ["worker-1"] == pulses.late()


@pytest.mark.parametrize("act", [lambda clock: clock.sleep(300), lambda clock: clock.wait(threading.Event(), 300)])
def test_a_pause_of_minutes_hides_nothing_that_stands_still(
    loop: Loop, clock: VirtualClock, pulses: Pulses, act: Callable[[LoopClock], bool]
) -> None:
    loop.do(lambda: act(loop.clock))

    assert {PIECE_S} == set(clock.slept)
    assert 300 == sum(clock.slept)
    pulses.look(STILL_S + 0.1)
    assert ["worker-1"] == pulses.late(), "what comes after the pause is under its own limit"


def test_a_pause_that_is_cut_short_says_so(loop: Loop, clock: VirtualClock) -> None:
    clock.until.set()

    assert loop.clock.sleep(300)
    assert [] == clock.slept


def test_while_it_pauses_it_is_not_late(pulses: Pulses) -> None:
    began, over = threading.Event(), threading.Event()

    class Held(VirtualClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            began.set()
            return over.wait(WAIT_S)

    loop = Loop(pulses, Held())
    loop.begin(lambda: loop.clock.sleep(300))
    assert began.wait(WAIT_S)

    pulses.look(PIECE_S + STILL_S)
    in_time = pulses.late()
    pulses.look(0.1)
    frozen = pulses.late()
    over.set()
    loop.end()

    assert [] == in_time
    assert ["worker-1"] == frozen


def test_what_another_thread_does_is_no_sign_of_life(loop: Loop, pulses: Pulses) -> None:
    """The heartbeat asks a held job for its reason to stop; that does not mean that the job's own thread lives."""
    pulses.look(STILL_S)

    loop.clock.now_s()

    pulses.look(1)
    assert ["worker-1"] == pulses.late()


def until_late(pulses: Pulses) -> float:
    """How many seconds the loop had been taken to stand still for; the thread is given time to come to rest."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        pulses.look(TICK_S)
        if pulses.late():
            return pulses.all()[0].quiet_s
        pause.wait(0.01)
    raise AssertionError("never late")


def test_a_real_thread_that_waits_for_a_lock_stands_still() -> None:
    pulses = Pulses()
    loop = Loop(pulses, VirtualClock())
    lock = threading.Lock()
    with lock:
        loop.begin(lambda: lock.acquire(timeout=WAIT_S))
        quiet_s = until_late(pulses)
    loop.end()

    assert quiet_s > STILL_S


def test_a_real_thread_that_computes_does_not_stand_still() -> None:
    pulses = Pulses()
    loop, over, rounds = Loop(pulses, VirtualClock()), threading.Event(), threading.Semaphore(0)

    def compute() -> None:
        while not over.is_set():
            hashlib.sha256(bytes(100_000)).hexdigest()
            rounds.release()

    loop.begin(compute)
    for _ in range(int(BUSY_S / TICK_S)):
        while rounds.acquire(blocking=False):
            pass  # a round that was over before the last look shows nothing
        assert rounds.acquire(timeout=WAIT_S)
        pulses.look(TICK_S)

    late = pulses.late()
    over.set()
    loop.end()
    assert [] == late


def test_a_thread_that_is_gone_without_a_word_is_late() -> None:
    pulses = Pulses()
    pulse = pulses.add("logs")
    thread = threading.Thread(target=pulse.begin)
    thread.start()
    thread.join(WAIT_S)

    assert until_late(pulses) > STILL_S
