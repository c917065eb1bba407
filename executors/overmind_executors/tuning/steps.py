"""How far a job is, and what it has spent: validate, baseline, every iteration, the test, the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overmind_executors.calls.budget import Spent
from overmind_executors.calls.forecast import Estimate
from overmind_executors.calls.pace import NOTHING_YET, Pace, pace_of
from overmind_executors.contract import Context
from overmind_executors.tuning.parameters import PromptTuningParameters


@dataclass
class Steps:
    """
    Steps only go up, and their number stays.

    Attributes:
        spent, estimate: None before the first call.
    """

    task: PromptTuningParameters
    context: Context
    spent: Callable[[], Spent] | None = None
    estimate: Estimate | None = None
    _last: tuple[int, str] = (0, "")

    @property
    def total(self) -> int:
        """The number of the last step."""
        return 3 + self.task.num_iterations + self.task.run_test_after_optimization

    def say(self, step: int, name: str) -> None:
        """Step number *step* begins; never one before the last."""
        self._last = (max(step, self._last[0]), name)
        self.again()

    def again(self) -> None:
        """The step goes on."""
        step, name = self._last
        self._pace().tell(self.context, step, self.total, name)

    def _pace(self) -> Pace:
        if self.spent is None or self.estimate is None:
            return NOTHING_YET
        spent = self.spent()
        left = self.estimate.calls.typical - spent.calls
        return pace_of(spent, calls_left=left, is_priced=self.estimate.cost_usd is not None)

    def baseline(self) -> None:
        """The prompt as it was is tried."""
        self.say(2, "baseline")

    def iteration(self, number: int) -> None:
        """Iteration *number*, counted from 1, begins."""
        self.say(2 + number, f"iteration {number} of {self.task.num_iterations}")

    def test(self) -> None:
        """The held-out rows are asked."""
        self.say(self.total - 1, "hold-out test")

    def report(self) -> None:
        """What came out is written down."""
        self.say(self.total, "report")
