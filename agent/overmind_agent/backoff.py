"""What is worth trying again, how often, and how long to wait between two tries."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from overmind_agent.errors import ProtocolError, TransientError

BASE_S: Final = 0.5
CAP_S: Final = 30.0
RETRY_AFTER_CAP_S: Final = 300.0
# Who asks for less patience than this, again and again, would be asked without a pause.
RETRY_AFTER_LEAST_S: Final = 1.0

T = TypeVar("T")


def is_worth_retrying(error: BaseException) -> bool:
    """
    Whether the same call may go well later.

    An answer that cannot be read counts: it says nothing about whether the call took effect, and every call that
    is repeated is safe to repeat.
    """
    return isinstance(error, (TransientError, ProtocolError))


def delay_s(
    previous_s: float,
    *,
    draw: Callable[[], float] = random.random,
    base_s: float = BASE_S,
    cap_s: float = CAP_S,
) -> float:
    """
    Seconds to wait after a failure, with decorrelated jitter.

    Args:
        previous_s: the last wait; 0 for the first.
        draw: a number in [0, 1).

    Returns:
        Seconds in [base_s, cap_s], at most three times *previous_s* (but at least three times base_s).

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    most = max(base_s, previous_s) * 3
    return min(cap_s, base_s + draw() * (most - base_s))


def retry_after_s(error: BaseException | None) -> float | None:
    """What the server asked for, within reason; None when it did not ask."""
    if isinstance(error, TransientError) and error.retry_after_s is not None:
        return min(RETRY_AFTER_CAP_S, error.retry_after_s)
    return None


class Backoff:
    """The waits of one caller, one after the other; `reset` after a success."""

    def __init__(
        self, draw: Callable[[], float] = random.random, *, base_s: float = BASE_S, cap_s: float = CAP_S
    ) -> None:
        self._draw = draw
        self._limits = {"base_s": base_s, "cap_s": cap_s}
        self._last_s = 0.0

    def after(self, error: BaseException | None) -> float:
        """Seconds to wait after *error*. A server's own wish is stretched by up to a tenth, never cut short."""
        asked = retry_after_s(error)
        if asked is not None and asked >= RETRY_AFTER_LEAST_S:
            return asked * (1 + self._draw() / 10)
        self._last_s = max(asked or 0.0, delay_s(self._last_s, draw=self._draw, **self._limits))
        return self._last_s

    def reset(self) -> None:
        """The last call went well."""
        self._last_s = 0.0


def insist(
    call: Callable[[], T],
    *,
    sleep: Callable[[float], object],
    stop: Callable[[RetryCallState], bool],
    on_retry: Callable[[BaseException, float], None],
) -> T:
    """
    The answer of *call*, tried again as long as it is worth it and *stop* does not say otherwise.

    Raises:
        Exception: what *call* raised last.
    """
    backoff = Backoff()

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return backoff.after(error)

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            on_retry(error, state.upcoming_sleep)

    def nap(seconds: float) -> None:
        sleep(seconds)

    retrying = Retrying(
        retry=retry_if_exception(is_worth_retrying),
        wait=wait,
        stop=stop,
        sleep=nap,
        before_sleep=before_sleep,
        reraise=True,
    )
    return retrying(call)
