"""
A bench and a writer without models, for thousands of searches: what a candidate is worth is known exactly.

Every row has a chance of its own; a candidate adds its worth to it. An answer is a fresh coin for every candidate,
row and repetition, as with a sampled model, and always the same for the same three and the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from overmind_executors.rows.rows import Row
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.merits import Objective
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.promotion import FLOOR, Decision, Verdict, decide
from overmind_executors.tuning.proposing import Proposal
from overmind_executors.tuning.racing import Racing
from overmind_executors.tuning.sealed import Registration
from overmind_executors.tuning.search import Ground, Plan, Search
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.texts import Texts
from overmind_executors.tuning.trials import Piece, Trial

SEED_TEXT = {"prompt": "gain=0"}
OBJECTIVES: tuple[Objective, ...] = PromptTuningParameters.model_fields["objectives"].default


@dataclass
class CoinBench:
    """Fills the port `Bench`. `rows` is the chance of each row."""

    seed: int
    rows: dict[str, float]
    calls: int = 0
    done: dict[tuple[str, str, int], Trial] = field(default_factory=dict)

    def trials(self, pieces: Sequence[Piece]) -> list[Trial]:
        """See Bench."""
        return [self._trial(piece) for piece in pieces]

    def unpaid(self, pieces: Sequence[Piece]) -> int:
        """See Bench."""
        return len({_key(piece) for piece in pieces} - self.done.keys())

    def _trial(self, piece: Piece) -> Trial:
        text, row_id, _ = key = _key(piece)
        if key not in self.done:
            self.calls += 1
            chance = self.rows[row_id] + gain_of(text)
            value = float(random.Random(f"{self.seed} {key}").random() < chance)
            self.done[key] = Trial(row_id, value)
        return self.done[key]


def _key(piece: Piece) -> tuple[str, str, int]:
    return piece.texts["prompt"], piece.case.row.id, piece.repetition


def gain_of(text: str) -> float:
    """What *text* adds to the chance of every row."""
    return float(text.partition("gain=")[2].split()[0])


@dataclass
class NumberedWriter:
    """Fills the port `Proposer`: a new text each time, with the gain that *gain* gives."""

    gain: Callable[[int], float]
    written: int = 0

    def propose(self, _texts: Texts, _names: Sequence[str], _seen: Sequence[tuple[Case, Trial]]) -> Proposal:
        """See Proposer."""
        self.written += 1
        return Proposal({"prompt": f"gain={self.gain(self.written)} number {self.written}"})


@dataclass(frozen=True)
class Simulated:
    """How a job ended: what the search claims, and what the test says of its best."""

    claimed: float
    true_gain: float
    verdict: Verdict | None

    @property
    def promoted(self) -> bool:
        """Whether the best takes the prompt's place."""
        return self.verdict is not None and self.verdict.decision is Decision.PROMOTED


def simulate(
    seed: int,
    folder: Path,
    search: Search,
    *,
    gain: Callable[[int], float] = lambda _number: 0.0,
    rows: tuple[int, int, int] = (20, 20, 40),
    plan: Plan | None = None,
    repeats: int = 3,
) -> Simulated:
    """One whole job: search on train and validation, then the one test on the held-out rows."""
    draw = random.Random(seed)
    names = [f"r{n}" for n in range(sum(rows))]
    bench = CoinBench(seed, {name: min(0.95, max(0.05, draw.betavariate(3, 2) * 0.9)) for name in names})
    cases = [Case(Row(n, n, name, {}, name, "x"), name) for n, name in enumerate(names)]
    train, validation, held_out = cases[: rows[0]], cases[rows[0] : sum(rows[:2])], cases[sum(rows[:2]) :]
    log_path = folder / f"{seed}.log"
    log_path.unlink(missing_ok=True)
    ledger = Ledger(lambda _candidate: None, objectives=OBJECTIVES)
    with StepLog(log_path) as log:
        ground = Ground(
            original=SEED_TEXT,
            train=train,
            validation=validation,
            bench=bench,
            proposer=NumberedWriter(gain),
            ledger=ledger,
            log=log,
            plan=plan or Plan(4, 2, 3, ("prompt",), seed),
            racing=Racing(),
        )
        ledger.baseline(SEED_TEXT, ground.trials([(SEED_TEXT, validation)])[0])
        ground.learnt = [trial.value for trial in ground.trials([(SEED_TEXT, train)])[0]]
        search(ground)
    best = ledger.best()
    claimed = (best.mean or 0.0) - (ledger.candidates[0].mean or 0.0)
    if not best.order:
        return Simulated(claimed, 0.0, None)
    registered = Registration(0.05, 0.0, repeats, len(held_out), FLOOR, "a", "b")
    sides = [
        [[t.value for t in bench.trials([Piece(texts, case, n) for n in range(repeats)])] for case in held_out]
        for texts in (SEED_TEXT, best.texts)
    ]
    verdict = decide(sides[0], sides[1], [case.group for case in held_out], registered)
    means = [
        sum(min(1.0, max(0.0, bench.rows[case.row.id] + gain_of(texts["prompt"]))) for case in held_out)
        for texts in (SEED_TEXT, best.texts)
    ]
    return Simulated(claimed, (means[1] - means[0]) / len(held_out), verdict)
