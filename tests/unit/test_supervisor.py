"""The supervisor: signals drain, then stop, then end; and the first fatal error comes out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from agent_parts import a_claim
from overmind_agent.errors import JournalError
from overmind_agent.held_jobs import HeldJob, HeldJobs
from overmind_agent.jobs import StopReason
from overmind_agent.loops import Pulses
from overmind_agent.notify import Notifier
from overmind_agent.signals import DUMP, ENDING, RELOAD, Signals
from overmind_agent.supervisor import STALLED, Supervisor
from overmind_agent.testing import VirtualClock

WAIT_S = 20


@pytest.fixture
def signals() -> Iterator[Signals]:
    """The signals of this process, and then as they were."""
    before = {number: signal.getsignal(number) for number in (*ENDING, RELOAD, DUMP)}
    made = Signals()
    yield made
    for thread in threading.enumerate():
        if thread.name == "waker":  # it writes to the pipe that is closed below
            thread.join(WAIT_S)
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(made._reader)
    os.close(made._writer)


class Scene:
    """A supervisor over one thread that ends when it is told."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.clock = VirtualClock()
        self.held_jobs = HeldJobs()
        self.held = HeldJob(a_claim(lease_s=None), self.clock, claimed_at_s=0)
        self.drained: list[str] = []
        self.drained_again: list[bool] = []
        self.reloads: list[bool] = []
        self.is_draining = threading.Event()
        self.over = threading.Event()
        self.supervisor = Supervisor(
            signals=signals,
            held_jobs=self.held_jobs,
            drain=self._drain,
            while_draining=lambda: self.drained_again.append(True),
            drain_s=60.0,
            pulses=Pulses(),
            on_reload=lambda: self.reloads.append(True),
            on_tick=lambda: None,
            notifier=Notifier(None),
            clock=self.clock,
            log=structlog.get_logger(),
        )

    def _drain(self, why: str) -> None:
        self.drained.append(why)
        self.is_draining.set()

    def watch(self, meanwhile: Callable[[], object]) -> None:
        """Watch over one thread with a held job while *meanwhile* happens in another; then let the thread end."""

        def happen() -> None:
            try:
                meanwhile()
            finally:
                self.over.set()

        other = threading.Thread(target=happen)
        with self.held_jobs.holding(self.held):
            other.start()
            try:
                self.supervisor.watch([threading.Thread(target=self.over.wait, args=[WAIT_S])])
            finally:
                other.join(WAIT_S)

    def is_stopped(self) -> bool:
        """Whether the held job was asked to stop within the time of a test."""
        ends_at = time.monotonic() + WAIT_S
        while self.held.stop_reason is None and time.monotonic() < ends_at:
            self.signals.wake()
            self.over.wait(0.01)
        return self.held.stop_reason is StopReason.AGENT_STOPPING


@pytest.fixture
def scene(signals: Signals) -> Scene:
    return Scene(signals)


def test_when_all_threads_have_ended_so_has_the_watch(scene: Scene) -> None:
    scene.watch(lambda: None)

    assert [] == scene.drained
    assert scene.held.stop_reason is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_stops_no_work(scene: Scene, number: int) -> None:
    def first() -> None:
        os.kill(os.getpid(), number)
        assert scene.is_draining.wait(WAIT_S)

    scene.watch(first)

    assert [f"signal {number:d}"] == scene.drained
    assert scene.drained_again, "a poll may have begun in the very moment of the drain"
    assert scene.held.stop_reason is None


def test_the_second_signal_stops_the_work(scene: Scene) -> None:
    stopped: list[bool] = []

    def both() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert scene.is_draining.wait(WAIT_S)
        os.kill(os.getpid(), signal.SIGTERM)
        stopped.append(scene.is_stopped())

    scene.watch(both)

    assert [True] == stopped
    assert 1 == len(scene.drained)


def test_when_the_time_for_draining_is_over_the_work_is_stopped(scene: Scene) -> None:
    stopped: list[bool] = []

    def late() -> None:
        scene.supervisor.drain("maintenance")
        scene.clock.advance(60)
        stopped.append(scene.is_stopped())

    scene.watch(late)

    assert [True] == stopped


def test_a_drain_is_begun_once_however_often_it_is_asked_for(scene: Scene) -> None:
    def twice() -> None:
        scene.supervisor.drain("first")
        scene.clock.advance(59)
        scene.supervisor.drain("second")

    scene.watch(twice)

    assert ["first"] == scene.drained
    assert scene.held.stop_reason is None


def test_after_a_fatal_error_the_work_is_stopped_and_the_first_error_comes_out(scene: Scene) -> None:
    stopped: list[bool] = []

    def fail() -> None:
        scene.supervisor.fail(JournalError("first"))
        scene.supervisor.fail(JournalError("second"))
        stopped.append(scene.is_stopped())

    with pytest.raises(JournalError, match="first"):
        scene.watch(fail)

    assert [True] == stopped
    assert ["it cannot go on"] == scene.drained


def test_the_threads_end_before_the_error_comes_out(scene: Scene) -> None:
    ended: list[bool] = []

    def fail() -> None:
        scene.supervisor.fail(JournalError("broken"))
        ended.append(scene.over.is_set())

    with pytest.raises(JournalError):
        scene.watch(fail)

    assert [False] == ended
    assert scene.over.is_set()


THIRD = """
import os, signal, threading, structlog
from agent_parts import a_claim
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.loops import Pulses
from overmind_agent.notify import Notifier
from overmind_agent.signals import Signals
from overmind_agent.supervisor import Supervisor
from overmind_agent.testing import VirtualClock

supervisor = Supervisor(
    signals=Signals(), held_jobs=HeldJobs(), drain=lambda why: print(why, flush=True),
    while_draining=lambda: None, drain_s=60.0, pulses=Pulses(), on_reload=lambda: None,
    on_tick=lambda: None,
    notifier=Notifier(None), clock=VirtualClock(), log=structlog.get_logger(),
)
print("ready", flush=True)
supervisor.watch([threading.Thread(target=threading.Event().wait, args=[60], daemon=True)])
"""


def test_the_third_signal_ends_the_process_at_once() -> None:
    command = [sys.executable, "-c", THIRD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        assert b"ready\n" == process.stdout.readline()
        code = None
        ends_at = time.monotonic() + WAIT_S
        while code is None and time.monotonic() < ends_at:
            process.terminate()
            try:
                code = process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        process.kill()

    assert 128 + signal.SIGTERM == code


STALLED_LOOP = """
import structlog, sys, threading
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.loops import PATIENCE_S, STILL_S, Pulses
from overmind_agent.notify import Notifier
from overmind_agent.signals import Signals
from overmind_agent.supervisor import TICK_S, Supervisor
from overmind_agent.testing import VirtualClock

signals, clock, pulses = Signals(), VirtualClock(), Pulses()
supervisor = Supervisor(
    signals=signals, held_jobs=HeldJobs(), drain=print, while_draining=print, drain_s=60.0, pulses=pulses,
    on_reload=print, on_tick=str, notifier=Notifier(None), clock=clock, log=structlog.get_logger(),
)
pulse = pulses.add("worker-1")
stop = threading.Event()

def hang():
    pulse.begin()
    stop.wait(60)

def pass_time():
    for _ in range(3 * int((STILL_S + PATIENCE_S) / TICK_S)):
        clock.advance(TICK_S)
        signals.wake()
        stop.wait(0.01)
    stop.set()

threading.Thread(target=pass_time, daemon=True).start()
supervisor.watch([threading.Thread(target=hang, name="worker-1")])
"""


def test_a_loop_that_stands_still_ends_the_process_and_says_where_it_stood() -> None:
    command = [sys.executable, "-c", STALLED_LOOP]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

    assert STALLED == ended.returncode, ended.stderr
    late, stalled = ended.stdout.find("loop.late"), ended.stdout.find("loop.stalled")
    assert 0 <= late < stalled
    assert 1 == ended.stdout.count("loop.late")
    assert " hang" in ended.stdout


def test_a_hangup_reloads_and_ends_nothing(scene: Scene) -> None:
    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        _wait_until(lambda: bool(scene.reloads))

    scene.watch(hang_up)

    assert [True] == scene.reloads
    assert [] == scene.drained
    assert scene.held.stop_reason is None


def test_on_request_the_log_says_where_each_thread_is(scene: Scene) -> None:
    def ask() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        _wait_until(lambda: bool(lines))

    with structlog.testing.capture_logs() as lines:
        scene.watch(ask)

    (line,) = lines
    assert "agent.stacks" == line["event"]
    assert any(place.endswith(" watch") for place in line["stacks"]["MainThread"])
    assert [] == scene.drained


def _wait_until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not is_so():
        assert time.monotonic() < ends_at, "it never came to be so"
        pause.wait(0.01)


def test_systemd_is_told_how_it_is(signals: Signals, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        Notifier(str(tmp_path / "notify")).tell(READY="1", STATUS="0 jobs")

        assert b"READY=1\nSTATUS=0 jobs" == manager.recv(1000)


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "@nobody-listens-here"])
def test_a_service_manager_that_does_not_listen_is_no_reason_to_stop(address: str | None) -> None:
    Notifier(address).tell(WATCHDOG="1")
