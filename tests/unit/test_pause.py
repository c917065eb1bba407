"""Patience that one connection was asked for, and all keep."""

from __future__ import annotations

import pytest

from overmind_agent.backoff import Backoff
from overmind_agent.errors import TransientError
from overmind_agent.over_http.pause import MOST_S, Pause
from overmind_agent.over_http.refusals import read_rate_limit_reset
from overmind_agent.testing import VirtualClock


def test_a_pause_ends_by_itself() -> None:
    clock = VirtualClock()
    pause = Pause(clock)

    pause.ask(30)
    left = [pause.left_s()]
    clock.advance(20)
    left.append(pause.left_s())
    clock.advance(11)
    left.append(pause.left_s())

    assert [30, 10, 0] == left


def test_the_longest_wish_counts_within_reason() -> None:
    pause = Pause(VirtualClock())

    pause.ask(60)
    pause.ask(5)
    first = pause.left_s()
    pause.ask(10_000_000)

    assert (60, MOST_S) == (first, pause.left_s())


@pytest.mark.parametrize("asked", [1.0, 30.0, 300.0, 4000.0])
def test_a_wish_is_kept_to_within_a_tenth_however_long_there_was_trouble_before(asked: float) -> None:
    """And not to the moment: a hundred agents would all come back in it."""
    backoff = Backoff()
    for _ in range(20):
        backoff.after(None)
    error = TransientError("busy", verb="x", http_status=429, retry_after_s=asked)

    waits = [backoff.after(error) for _ in range(50)]

    assert all(min(asked, MOST_S) <= wait <= 1.1 * min(asked, MOST_S) for wait in waits)
    assert len(set(waits)) > 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"RateLimit-Reset": "12"}, 12),
        ({"X-RateLimit-Reset": "12"}, 12),
        ({"X-RateLimit-Reset": "1800000030"}, 30),
        ({"X-RateLimit-Reset": "1799999999"}, 0),
        ({"RateLimit": "limit=100, remaining=0, reset=7"}, 7),
        ({"RateLimit": '"default";r=0;t=9'}, 9),
        ({"RateLimit-Reset": "soon"}, None),
        ({"RateLimit-Reset": "-5"}, None),
        ({"RateLimit-Reset": "nan"}, None),
        ({"RateLimit": "remaining=0"}, None),
    ],
)
def test_the_end_of_a_rate_limit_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds == read_rate_limit_reset(headers, now_s=1_800_000_000)
