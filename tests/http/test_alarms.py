"""The ends of exchanges, told by one thread."""

from __future__ import annotations

import threading

import pytest

from overmind_agent.over_http.alarms import Alarms

SOON_S = 0.02
LATER_S = 60.0
PATIENCE_S = 10.0


def no_more_threads(_thread: threading.Thread) -> None:
    """As a host says that has none left."""
    raise RuntimeError("can't start new thread")


@pytest.fixture(scope="module")
def alarms() -> Alarms:
    """They share a thread, which stays."""
    return Alarms("alarms under test")


def test_an_alarm_rings_within_its_block(alarms: Alarms) -> None:
    rang = threading.Event()

    with alarms.after(SOON_S, rang.set):
        assert rang.wait(PATIENCE_S)


def test_a_later_alarm_does_not_hold_up_one_that_was_set_after_it(alarms: Alarms) -> None:
    """The thread waits for the first of them: another one that comes before that has to wake it."""
    rang = []
    is_over = threading.Event()

    with alarms.after(LATER_S, lambda: rang.append("later")), alarms.after(SOON_S, is_over.set):
        assert is_over.wait(PATIENCE_S)

    assert [] == rang


def test_an_alarm_whose_block_has_ended_does_not_ring(alarms: Alarms) -> None:
    rang = []
    is_after_it = threading.Event()

    with alarms.after(SOON_S, lambda: rang.append("ended")):
        pass
    with alarms.after(2 * SOON_S, is_after_it.set):
        assert is_after_it.wait(PATIENCE_S)

    assert [] == rang


def test_an_alarm_rings_though_there_was_no_thread_left_for_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms, rang = Alarms("alarms under test"), threading.Event()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_more_threads)
        with alarms.after(LATER_S, lambda: None):
            pass

    with alarms.after(SOON_S, rang.set):
        assert rang.wait(PATIENCE_S)


def test_all_alarms_share_a_thread(alarms: Alarms) -> None:
    names = []
    are_over = threading.Barrier(2)

    def ring() -> None:
        names.append(threading.current_thread())
        if len(names) == 3:
            are_over.wait(PATIENCE_S)

    with alarms.after(0.0, ring), alarms.after(0.0, ring), alarms.after(0.0, ring):
        are_over.wait(PATIENCE_S)

    assert 1 == len(set(names))
