"""What a job has spent and how long it will take, in the few words that stand behind a step's name."""

from __future__ import annotations

from typing import Final

from overmind_executors.calls.budget import Spent

# With fewer calls nobody knows how long one takes.
_FEWEST: Final = 5


def with_pace(name: str, spent: Spent, *, calls_left: float | None, is_priced: bool) -> str:
    """
    *name* of a step, such as `iteration 2 of 5 (212 calls, $0.41, about 5 min left)`.

    Args:
        calls_left: as many as are to be expected; None for nobody knows.
        is_priced: whether the price of each model is known.
    """
    if not spent.calls:
        return name
    words = [f"{spent.calls:,} call{'s' if spent.calls > 1 else ''}"]
    if is_priced:
        words.append(f"${spent.usd:,.2f}" if spent.usd >= 1 else f"${spent.usd:.4f}")
    left_s = seconds_left(spent, calls_left)
    if left_s is not None:
        words.append(f"about {_duration(left_s)} left")
    return f"{name} ({', '.join(words)})"


def seconds_left(spent: Spent, calls_left: float | None) -> float | None:
    """As long as *calls_left* take at the pace so far; None while that cannot be said."""
    if calls_left is None or calls_left <= 0 or spent.calls < _FEWEST:
        return None
    return calls_left * spent.seconds / spent.calls


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
