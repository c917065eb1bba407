"""The one test: what it decides by is written down, then its rows are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from overmind_executors.calls.paid_model import BUDGET_EXHAUSTED
from overmind_executors.contract import ExecutionFailed
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.promotion import FLOOR, Decision, Verdict
from overmind_executors.tuning.recounting import verdict_of
from overmind_executors.tuning.sealed import Registration, Sealed
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.texts import Texts, digest
from overmind_executors.tuning.trials import Bench, NoMoreCalls, Piece, Trial


@dataclass
class HeldOutTest:
    """
    Made before the search, held once after it.

    Attributes:
        lines: of `comparison.jsonl`, a row each; empty until both sides have answered.
        verdict, registration: None until the test is held.
    """

    task: PromptTuningParameters
    sealed: Sealed
    bench: Bench
    lines: list[dict[str, Any]] = field(default_factory=list)
    registration: Registration | None = None
    verdict: Verdict | None = None

    @property
    def trials(self) -> int:
        """How many trials it takes."""
        return 2 * self.task.times * self.sealed.rows if self.task.run_test_after_optimization else 0

    def hold(self, original: Texts, candidate: Texts) -> Verdict:
        """
        *candidate* against *original*; inconclusive when the budget ends before both have answered.

        Raises:
            ExecutionFailed: the provider is gone, or the rows were opened for another test before.
            WorkStopped: the job was asked to stop.
        """
        self.registration = self._registered(original, candidate)
        cases = self.sealed.open(self.registration)
        try:
            sides = [self._side(texts, cases) for texts in (original, candidate)]
        except NoMoreCalls as none:
            if none.reason != BUDGET_EXHAUSTED:
                raise ExecutionFailed(f"the test cannot go on: {none}", reason=none.reason) from None
            self.verdict = Verdict(Decision.INCONCLUSIVE, None, None, 0, len(cases), None, None, BUDGET_EXHAUSTED)
            return self.verdict
        self.lines = [_line(*of_row) for of_row in zip(cases, *sides, strict=True)]
        self.verdict = verdict_of(self.lines, self.registration)
        return self.verdict

    def _registered(self, original: Texts, candidate: Texts) -> Registration:
        return Registration(
            alpha=self.task.alpha,
            margin=self.task.margin,
            repeats=self.task.times,
            rows=self.sealed.rows,
            floor=FLOOR,
            baseline=digest(original),
            candidate=digest(candidate),
            constraints=self.task.constraints.model_dump(exclude_none=True),
        )

    def _side(self, texts: Texts, cases: Sequence[Case]) -> list[list[Trial]]:
        """For each of *cases* its trials."""
        times = self.task.times
        made = iter(self.bench.trials([Piece(texts, case, number) for case in cases for number in range(times)]))
        return [[next(made) for _ in range(times)] for _ in cases]


def _line(case: Case, before: Sequence[Trial], after: Sequence[Trial]) -> dict[str, Any]:
    return {
        "item_id": case.row.id,
        "group": case.group,
        "expected": case.row.expected,
        "baseline": [trial.as_json() for trial in before],
        "candidate": [trial.as_json() for trial in after],
    }
