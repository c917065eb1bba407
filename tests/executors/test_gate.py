"""The door to one provider: breaker and limits, from real threads."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from overmind_executors.calls.breaker import DEAD_AFTER_S, OPENS_AFTER, Breaker
from overmind_executors.calls.gate import Gate, GateClosed, Health
from overmind_executors.calls.send_limits import SendLimits, Signal
from overmind_executors.stopping import StopFlag


def _open(at_s: float = 0.0) -> Breaker:
    breaker = Breaker(base_s=1.0, cap_s=5.0)
    for _ in range(OPENS_AFTER):
        breaker.failed(at_s)
    return breaker


def test_failures_one_after_the_other_let_only_probes_through() -> None:
    breaker = _open()

    assert breaker.is_open
    assert (1.0, 0.0, math.inf) == (breaker.wait_s(0.0, 0), breaker.wait_s(1.0, 0), breaker.wait_s(1.0, 1))


def test_a_good_answer_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(base_s=1.0, cap_s=5.0)

    for _ in range(5):
        for _ in range(OPENS_AFTER - 1):
            breaker.failed(0.0)
        breaker.answered()

    assert (False, 0.0) == (breaker.is_open, breaker.wait_s(0.0, 9))


def test_probes_come_at_longer_and_longer_intervals_up_to_the_cap() -> None:
    breaker = _open()
    waits = []
    for _ in range(4):
        breaker.failed(0.0)
        waits.append(breaker.wait_s(0.0, 0))

    assert [2.0, 4.0, 5.0, 5.0] == waits


def test_a_provider_is_dead_when_it_never_answered_for_long_enough() -> None:
    breaker = _open(at_s=100.0)
    breaker.failed(100.0 + DEAD_AFTER_S / 2)

    assert (False, True) == (breaker.is_dead(100.0 + DEAD_AFTER_S - 1), breaker.is_dead(100.0 + DEAD_AFTER_S))
    breaker.answered()
    assert not breaker.is_dead(1000.0)


def test_a_dead_provider_is_given_up_within_a_minute_and_few_calls() -> None:
    """Each probe fails at once; ten rows in a hundred of a job of 1,000 would be 100 calls."""
    breaker, now_s, calls = Breaker(base_s=0.5, cap_s=20.0), 0.0, 0

    while not breaker.is_dead(now_s):
        now_s += breaker.wait_s(now_s, 0)
        breaker.failed(now_s)
        calls += 1

    assert now_s <= 60
    assert calls <= 20


def test_threads_pass_no_more_at_once_than_the_window_lets() -> None:
    stop, inside, most, lock = StopFlag(), 0, 0, threading.Lock()
    gate = Gate(SendLimits(3), Breaker(base_s=1, cap_s=1), stop)

    def pass_through(_: int) -> None:
        nonlocal inside, most
        sent = gate.enter()
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1
        gate.leave(sent, Signal.TAKEN, Health.ANSWERED)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(pass_through, range(500)))

    assert 1 <= most <= 3


def test_a_stop_opens_no_door_and_holds_nobody() -> None:
    stop = StopFlag()
    gate = Gate(SendLimits(1), Breaker(base_s=1, cap_s=1), stop)
    gate.enter()

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(gate.enter) for _ in range(8)]
        stop.set()
        for one in waiting:
            with pytest.raises(GateClosed):
                one.result(5)


def test_a_gate_that_is_shut_lets_everybody_go() -> None:
    gate = Gate(SendLimits(1), Breaker(base_s=1.0, cap_s=5.0), StopFlag())
    gate.enter()

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(gate.enter) for _ in range(8)]
        gate.shut()
        ended = [type(one.exception(5)) for one in waiting]

    assert [GateClosed] * 8 == ended
