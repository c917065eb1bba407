"""What is tried again, and how long is waited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState

from overmind_agent.backoff import Backoff, delay_s, insist, is_worth_retrying, retry_after_s
from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    ConfigError,
    ControlPlaneError,
    ExecutorError,
    IllegalTransition,
    InvalidInput,
    JobError,
    JournalError,
    OvermindAgentError,
    ProtocolError,
    RejectedError,
    StateInUse,
    Stopped,
    TransientError,
    UploadError,
)
from overmind_agent.jobs import StopReason
from overmind_agent.testing import VirtualClock

DRAWS = st.floats(min_value=0, max_value=1, exclude_max=True)


def busy(retry_after: float | None = None) -> TransientError:
    return TransientError("busy", verb="report", http_status=503, retry_after_s=retry_after)


@pytest.mark.parametrize(
    ("error", "is_worth_it"),
    [
        (busy(), True),
        (ProtocolError("?"), True),
        (RejectedError("no", verb="v"), False),
        (AuthError("no", verb="v"), False),
        (ClaimLost("no", verb="v"), False),
        (ControlPlaneError("?", verb="v"), False),
        (ConfigError("?"), False),
        (StateInUse("?"), False),
        (JobError("?"), False),
        (InvalidInput("?"), False),
        (ExecutorError("?"), False),
        (UploadError("?"), False),
        (IllegalTransition("?"), False),
        (JournalError("?"), False),
        (OvermindAgentError("?"), False),
        (Stopped(StopReason.TIMEOUT), False),
        (RuntimeError("?"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_pass_is_tried_again(error: BaseException, is_worth_it: bool) -> None:
    assert is_worth_it == is_worth_retrying(error)


@given(previous_s=st.floats(min_value=0, max_value=1e6), draw=DRAWS)
def test_a_wait_stays_within_its_bounds(previous_s: float, draw: float) -> None:
    wait_s = delay_s(previous_s, draw=lambda: draw)

    assert 0.5 <= wait_s <= 30
    assert wait_s <= max(1.5, previous_s * 3)


@given(draws=st.lists(DRAWS, min_size=1, max_size=30))
def test_a_row_of_waits_grows_at_most_threefold(draws: list[float]) -> None:
    rest = iter(draws)
    backoff = Backoff(draw=lambda: next(rest))

    waits = [backoff.after(None) for _ in draws]

    assert all(0.5 <= wait <= 30 for wait in waits)
    assert all(after <= max(1.5, 3 * before) for before, after in zip([0.0, *waits], waits, strict=False))


def test_without_luck_the_waits_reach_the_cap_and_stay_there() -> None:
    backoff = Backoff(draw=lambda: 0.999999)

    waits = [round(backoff.after(None), 1) for _ in range(6)]

    assert [1.5, 4.5, 13.5, 30.0, 30.0, 30.0] == waits


def test_after_a_success_the_first_wait_is_short_again() -> None:
    backoff = Backoff(draw=lambda: 0.999999)
    for _ in range(5):
        backoff.after(None)

    backoff.reset()

    assert 1.5 == round(backoff.after(None), 1)


@given(asked_s=st.floats(min_value=0, max_value=300), draw=DRAWS)
def test_a_wish_of_the_server_is_stretched_but_never_cut(asked_s: float, draw: float) -> None:
    """Fifty agents that are told the same second do not all come back in it."""
    wait_s = Backoff(draw=lambda: draw).after(busy(asked_s))

    assert asked_s <= wait_s <= max(1.5, asked_s * 1.1)


@pytest.mark.parametrize(
    ("error", "asked_s"),
    [
        (busy(12.0), 12.0),
        (busy(0.0), 0.0),
        (busy(1e12), 300.0),
        (busy(), None),
        (RejectedError("no", verb="v"), None),
        (ProtocolError("?"), None),
        (None, None),
    ],
    ids=["12 s", "at once", "for ever", "not said", "rejected", "unreadable", "no error"],
)
def test_a_wish_of_the_server_is_capped(error: BaseException | None, asked_s: float | None) -> None:
    assert asked_s == retry_after_s(error)


def failing(*errors: Exception) -> Callable[[], str]:
    """A call that raises each of *errors*, then answers."""
    rest = list(errors)

    def call() -> str:
        if rest:
            raise rest.pop(0)
        return "answer"

    return call


def never(_state: RetryCallState) -> bool:
    return False


def test_a_call_is_repeated_until_it_goes_well() -> None:
    clock, heard = VirtualClock(), []

    answer = insist(
        failing(busy(), ProtocolError("?"), busy(7.0)),
        sleep=clock.sleep,
        stop=never,
        on_retry=lambda error, wait_s: heard.append((type(error), wait_s)),
    )

    assert "answer" == answer
    assert [TransientError, ProtocolError, TransientError] == [kind for kind, _ in heard]
    assert clock.slept == [wait_s for _, wait_s in heard]
    assert clock.slept[-1] >= 7.0


def test_a_refusal_is_not_repeated() -> None:
    clock = VirtualClock()

    with pytest.raises(ClaimLost):
        insist(failing(ClaimLost("gone", verb="v")), sleep=clock.sleep, stop=never, on_retry=lambda *_: None)

    assert [] == clock.slept


def test_when_it_is_time_to_stop_the_last_error_comes_out() -> None:
    clock = VirtualClock()

    with pytest.raises(ProtocolError, match="second"):
        insist(
            failing(busy(), ProtocolError("second"), busy()),
            sleep=clock.sleep,
            stop=lambda state: state.attempt_number >= 2,
            on_retry=lambda *_: None,
        )

    assert 1 == len(clock.slept)
