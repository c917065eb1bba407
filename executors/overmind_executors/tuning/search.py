"""What every search has in common, and the plainest one."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from overmind_executors.tuning.constraints import Code, Objection
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.proposing import Proposer
from overmind_executors.tuning.racing import Racing, blocks, is_lost
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.texts import Texts, digest
from overmind_executors.tuning.trials import Bench, NoMoreCalls, Piece, Trial

BUDGET_KEPT: Final = "budget_exhausted"
HOPELESS: Final = "hopeless"
FEW: Final = 4
"""So many different candidates, none of which scored on any row, end a search whose prompt never scored either."""


class SearchOver(Exception):
    """There is nothing to be gained by going on; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Plan:
    """
    How long a search goes on.

    Attributes:
        tuned: the names of the texts that may change.
        examples: rows that a candidate is written from.
    """

    iterations: int
    candidates: int
    examples: int
    tuned: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Chosen:
    """
    What became of a candidate on the validation rows.

    Attributes:
        values: on each of them, 0 for no score; None when it may not win, or went out before it was tried on all.
        objectives: more is better, in the respects in which the prompt as it was is known.
    """

    values: tuple[float, ...] | None
    objectives: Mapping[str, float]


@dataclass
class Ground:
    """
    What a search works on. It has the rows to learn from and those to choose by, and no others.

    Attributes:
        learnt: what the prompt as it was is worth on each of *train*, None for no score; empty when not tried.
        racing: None tries every candidate on all validation rows.
        is_short: whether what is left of the budget is needed for the test.
        on_iteration: told of the number of the iteration that begins, from 1.
    """

    original: Texts
    train: Sequence[Case]
    validation: Sequence[Case]
    bench: Bench
    proposer: Proposer
    ledger: Ledger
    log: StepLog
    plan: Plan
    learnt: Sequence[float | None] = ()
    racing: Racing | None = None
    is_short: Callable[[int], bool] = lambda _trials: False
    on_iteration: Callable[[int], None] = lambda _number: None
    _tried: set[str] = field(default_factory=set)
    _has_scored: bool = False

    def trials(self, work: Sequence[tuple[Texts, Sequence[Case]]]) -> list[list[Trial]]:
        """
        The trials of each of *work*, in its order.

        Raises:
            NoMoreCalls: also when the rest of the budget is kept for the test.
            ExecutionFailed: it is not what the same search did before.
        """
        pieces = [Piece(texts, case) for texts, cases in work for case in cases]
        self.log.step("trials", *((digest(piece.texts), piece.case.row.id) for piece in pieces))
        if self.log.decide("short", lambda: self.is_short(self.bench.unpaid(pieces))):
            raise NoMoreCalls(BUDGET_KEPT)
        trials = self.bench.trials(pieces)
        self._tried.update(digest(texts) for texts, _ in work)
        self._has_scored = self._has_scored or any(trial.value for trial in trials)
        made = iter(trials)
        return [[next(made) for _ in cases] for _, cases in work]

    def propose(self, parent: Texts, names: Sequence[str], seen: Sequence[tuple[Case, Trial]]) -> Texts | None:
        """
        A new candidate that may be tried, None when there is none; either way it is in the ledger or will be.

        Raises:
            SearchOver: neither the prompt nor the first few candidates have scored at all.
            NoMoreCalls, ExecutionFailed: as `trials`.
        """
        if not self._has_scored and len(self._tried) > FEW:
            raise SearchOver(HOPELESS)
        self.log.step("propose", digest(parent), *names, *((case.row.id, trial.value) for case, trial in seen))
        if self.log.decide("short", lambda: self.is_short(1)):
            raise NoMoreCalls(BUDGET_KEPT)
        made = self.proposer.propose(parent, names, seen)
        objection = made.objection
        if objection is None and self.ledger.seen_before(made.texts):
            objection = Objection(Code.DUPLICATE, "the same as a candidate before it")
        if objection is not None:
            self.ledger.refused(made.texts, parent, objection)
            return None
        return made.texts

    def choose(self, texts: Texts, parent: Texts) -> Chosen:
        """
        Try *texts* on the validation rows, as many as it takes; it is in the ledger then.

        Raises:
            NoMoreCalls, ExecutionFailed: as `trials`.
        """
        tried: dict[int, Trial] = {}
        best = self.ledger.best()
        for places in blocks(self.validation, self.racing):
            cases = [self.validation[place] for place in places]
            tried |= dict(zip(places, self.trials([(texts, cases)])[0], strict=True))
            if self.racing is None or len(tried) == len(self.validation):
                continue
            if is_lost([tried[n].value for n in tried], [best.values[n] for n in tried], self.racing):
                rows = f"{len(tried)} of {len(self.validation)} validation rows"
                self.ledger.screened(texts, parent, f"shown to be worse than {best.name} on {rows}")
                return Chosen(None, self.ledger.no_objectives())
        trials = [tried[place] for place in range(len(self.validation))]
        made = self.ledger.tried(texts, parent, trials)
        if not made.may_win:
            return Chosen(None, self.ledger.no_objectives())
        return Chosen(tuple(trial.value or 0.0 for trial in trials), self.ledger.objectives_at(texts, trials))

    def begin(self, iteration: int) -> None:
        """Iteration number *iteration* begins."""
        self.ledger.iteration = iteration
        self.on_iteration(iteration)


class Search(Protocol):
    """Fills a ledger with candidates. Ends by itself, or with what `Ground` raises."""

    def __call__(self, ground: Ground) -> None:
        """Search; the baseline is in the ledger already."""


def best_of_n(ground: Ground) -> None:
    """
    Every candidate is written from the prompt as it was, and tried on all validation rows: the control for any
    search that claims to learn from its own candidates.
    """
    draw = random.Random(ground.plan.seed)  # noqa: S311  # which rows are shown, no secret
    for iteration in range(1, ground.plan.iterations + 1):
        ground.begin(iteration)
        for _ in range(ground.plan.candidates):
            shown = draw.sample(list(ground.train), min(ground.plan.examples, len(ground.train)))
            seen = list(zip(shown, ground.trials([(ground.original, shown)])[0], strict=True))
            made = ground.propose(ground.original, ground.plan.tuned, seen)
            if made is not None:
                ground.choose(made, ground.original)


def random_rewrite(ground: Ground) -> None:
    """
    Every candidate is a rewriting of one that was kept, drawn at random, by a writer who is shown no row and no
    score: the control for any search that claims to learn from the rows.
    """
    draw = random.Random(ground.plan.seed)  # noqa: S311  # which candidate is rewritten, no secret
    for iteration in range(1, ground.plan.iterations + 1):
        ground.begin(iteration)
        for _ in range(ground.plan.candidates):
            parent = draw.choice([one for one in ground.ledger.candidates if one.may_win and one.code.keeps]).texts
            made = ground.propose(parent, ground.plan.tuned, [])
            if made is not None:
                ground.choose(made, parent)
