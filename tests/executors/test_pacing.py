"""When a call is tried again, and when no more."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from overmind_executors.pacing import Pause, RetryBudget, RetryPolicy, next_wait_s, retry_after_s
from overmind_executors.stopping import StopFlag

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

RETRY_AFTER = [
    ({}, None),
    ({"Retry-After": "0"}, 0.0),
    ({"Retry-After": "7"}, 7.0),
    ({"Retry-After": " 2.5 "}, 2.5),
    ({"Retry-After": "1000000000000"}, 60.0),
    ({"Retry-After": "9" * 500}, 60.0),
    ({"Retry-After": "-5"}, None),
    ({"Retry-After": "abc"}, None),
    ({"Retry-After": ""}, None),
    ({"Retry-After": "."}, None),
    ({"Retry-After": "NaN"}, None),
    ({"Retry-After": "inf"}, None),
    ({"Retry-After": "1e9"}, None),
    ({"Retry-After": "٣"}, None),
    ({"Retry-After": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
    ({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
    ({"Retry-After": "Thu, 01 Jan 2099 12:00:30 GMT"}, 60.0),
    ({"Retry-After": "Thu, 99 Jan 2026 12:00:30 GMT"}, None),
    ({"retry-after-ms": "1500", "Retry-After": "7"}, 1.5),
    ({"retry-after-ms": "soon", "Retry-After": "7"}, 7.0),
]


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTER)
def test_what_a_server_asks_for_is_read_and_kept_within_bounds(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert seconds == retry_after_s(headers, NOW)


def test_waits_grow_by_chance_between_their_bounds() -> None:
    """The longest draw each time: three times the last one, up to the cap; the shortest: the base."""
    policy = RetryPolicy(base_s=1.0, cap_s=20.0)
    longest = [policy.base_s]
    for _ in range(4):
        longest.append(next_wait_s(longest[-1], policy, lambda _low, high: high))

    assert [1.0, 3.0, 9.0, 20.0, 20.0] == longest
    assert 1.0 == next_wait_s(20.0, policy, lambda low, _high: low)


def test_a_dead_provider_uses_up_the_retries() -> None:
    budget = RetryBudget(30)

    assert 30 == [budget.take() for _ in range(100)].count(True)


def test_a_provider_that_fails_one_call_in_three_is_borne_for_ever() -> None:
    budget = RetryBudget(5)

    for _ in range(1000):
        assert budget.take()
        budget.give_back()
        budget.give_back()


def test_good_answers_save_up_no_more_than_the_whole_budget() -> None:
    budget = RetryBudget(3)
    for _ in range(1000):
        budget.give_back()

    assert [True, True, True, False] == [budget.take() for _ in range(4)]


def test_a_pause_ends_at_once_when_the_work_is_to_stop() -> None:
    pause, stop = Pause(), StopFlag()
    pause.extend(60)
    stop.set()

    began = time.monotonic()
    pause.wait(stop)

    assert time.monotonic() - began < 5


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    pause = Pause()
    pause.extend(0.2)
    pause.extend(0.0)

    began = time.monotonic()
    pause.wait(StopFlag())

    assert time.monotonic() - began > 0.1
