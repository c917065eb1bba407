"""When a call is tried again, and when no more."""

from __future__ import annotations

from overmind_executors.calls.pacing import RetryBudget, RetryPolicy, next_wait_s


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
