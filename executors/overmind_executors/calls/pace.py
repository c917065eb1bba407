"""What a job has spent and how long it will take: in figures, and in the few words behind a step's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from overmind_executors.calls.budget import Spent
from overmind_executors.contract import Context

# With fewer calls nobody knows how long one takes.
_FEWEST: Final = 5


@dataclass(frozen=True)
class Pace:
    """
    Attributes:
        usd: US dollars so far; None where a price is unknown.
        eta_s: seconds until the work is done; None while that cannot be said.
    """

    calls: int
    usd: float | None
    eta_s: float | None

    def tell(self, context: Context, step: int, total_steps: int, name: str) -> None:
        """Report a step, such as `iteration 2 of 5 (212 calls, $0.41, about 5 min left)`, and the figures."""
        context.report_pace(self.usd, self.eta_s)
        context.report(step, total_steps, self._behind(name))

    def _behind(self, name: str) -> str:
        if not self.calls:
            return name
        words = [f"{self.calls:,} call{'s' if self.calls > 1 else ''}"]
        if self.usd is not None:
            words.append(f"${self.usd:,.2f}" if self.usd >= 1 else f"${self.usd:.4f}")
        if self.eta_s is not None:
            words.append(f"about {_duration(self.eta_s)} left")
        return f"{name} ({', '.join(words)})"


NOTHING_YET: Final = Pace(0, None, None)


def pace_of(spent: Spent, *, calls_left: float | None, is_priced: bool) -> Pace:
    """
    The pace of a job that has *spent* so much.

    Args:
        calls_left: as many as are to be expected; None for nobody knows.
        is_priced: whether the price of each model is known.
    """
    left_s = seconds_left(spent, calls_left)
    return Pace(
        spent.calls,
        round(spent.usd, 8) if is_priced else None,
        None if left_s is None else round(left_s, 3),
    )


def seconds_left(spent: Spent, calls_left: float | None) -> float | None:
    """As long as *calls_left* take at the pace so far; None while that cannot be said."""
    if calls_left is None or calls_left <= 0 or spent.calls < _FEWEST:
        return None
    return calls_left * spent.seconds / spent.calls


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
