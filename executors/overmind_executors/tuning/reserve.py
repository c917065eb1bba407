"""What of a budget the search must leave for the test, which alone decides anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from overmind_executors.calls.budget import Limits, Spent


@dataclass
class Reserve:
    """
    Attributes:
        spent: what the job has used so far.
        kept: trials that the test will need.
    """

    limits: Limits
    spent: Callable[[], Spent]
    kept: int
    _a_trial: dict[str, float] = field(default_factory=dict)

    def learn(self, trials: int) -> None:
        """*trials* of them have used all that was spent so far."""
        self._a_trial = {name: used / trials for name, used in asdict(self.spent()).items()}

    def is_short(self, trials: int) -> bool:
        """Whether *trials* more would take from what is kept; nobody knows before the first ones are done."""
        most = self.limits.model_dump(exclude_none=True)
        used = asdict(self.spent()) if most else {}
        return any(
            used[name] + each * (trials + self.kept) > most[f"max_{name}"]
            for name, each in self._a_trial.items()
            if f"max_{name}" in most
        )
