"""
A bench where a prompt is a set of rules, for comparing searches: what each prompt is worth is known exactly.

Every row needs one of eight rules and is answered well by a prompt that has it; the writer reads what the rows that
went wrong had needed, adds rules for some of them and now and then loses one that was there. So no prompt that is
written at one go has all of them, and a search that builds on what it found has.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gepa.api import optimize
from gepa.core.adapter import EvaluationBatch

from overmind_executors.rows.rows import Row
from overmind_executors.tuning.gepa_search import gepa_search
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.merits import Objective
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.proposing import Proposal
from overmind_executors.tuning.racing import Racing
from overmind_executors.tuning.search import Ground, Plan, Search, best_of_n, random_rewrite
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.texts import Texts
from overmind_executors.tuning.trials import NoMoreCalls, Piece, Trial

RULES = 8
BEST, WITHOUT = 0.95, 0.1
SEED_TEXT = {"prompt": "rules:"}
RACING = Racing()
OBJECTIVES: tuple[Objective, ...] = PromptTuningParameters.model_fields["objectives"].default


def rules_of(text: str) -> frozenset[int]:
    """The rules that a prompt has."""
    return frozenset(int(word) for word in text.partition("rules:")[2].split(";")[0].split())


def worth(text: str) -> float:
    """The share of rows that it answers well, as the share of the best that there is."""
    share = len(rules_of(text)) / RULES
    return (share * BEST + (1 - share) * WITHOUT) / BEST


@dataclass
class RulesBench:
    """Fills the port `Bench`; the same work is done, and counted, once."""

    seed: int
    calls: int = 0
    done: dict[tuple[str, str, int], Trial] = field(default_factory=dict)

    def trials(self, pieces: Sequence[Piece]) -> list[Trial]:
        """See Bench."""
        return [self.trial(piece) for piece in pieces]

    def unpaid(self, pieces: Sequence[Piece]) -> int:
        """See Bench."""
        return len({piece.key() for piece in pieces} - self.done.keys())

    def trial(self, piece: Piece) -> Trial:
        """A coin for each prompt and row, always the same for both."""
        key = piece.key()
        if key not in self.done:
            self.calls += 1
            chance = BEST if _needs(piece.case) in rules_of(piece.texts["prompt"]) else WITHOUT
            self.done[key] = Trial(key[1], float(random.Random(f"{self.seed} {key}").random() < chance))
        return self.done[key]


def _needs(case: Case) -> int:
    return int(case.row.id) % RULES


@dataclass
class RulesWriter:
    """Fills the port `Proposer`: a rule for every second row that went wrong; one of ten rules gets lost."""

    seed: int
    written: int = 0

    def propose(self, texts: Texts, _names: Sequence[str], seen: Sequence[tuple[Case, Trial]]) -> Proposal:
        """See Proposer. Shown no row, it guesses."""
        failed = [case for case, trial in seen if not trial.value]
        guess = random.Random(f"{self.seed} {self.written} guess").choice(TRAIN)
        return Proposal(self.write(texts, failed if seen else [guess]))

    def write(self, texts: Texts, failed: Sequence[Case]) -> dict[str, str]:
        """A new prompt, after reading what became of the rows that *failed*."""
        self.written += 1
        draw = random.Random(f"{self.seed} {self.written}")
        kept = {rule for rule in sorted(rules_of(texts["prompt"])) if draw.random() >= 0.1}
        new = {_needs(case) for case in failed if draw.random() < 0.5}
        return {"prompt": f"rules: {' '.join(map(str, sorted(kept | new)))}; number {self.written}"}


@dataclass(frozen=True)
class Reached:
    """How far a search came, as a share of the best prompt's worth, and with how many calls."""

    share: float
    calls: int


def _cases(first: int, number: int) -> list[Case]:
    return [Case(Row(n, n, str(n), {}, str(n), "x"), str(n)) for n in range(first, first + number)]


TRAIN, VALIDATION = _cases(0, 40), _cases(40, 40)


def reached(
    seed: int,
    folder: Path,
    search: Search = gepa_search,
    *,
    plan: Plan | None = None,
    most_calls: int | None = None,
    racing: Racing | None = RACING,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> Reached:
    """One of our searches, set as jobs are; with *most_calls* it goes on until they are used up."""
    bench, writer = RulesBench(seed), RulesWriter(seed)
    path = folder / f"{search.__name__}-{seed}.log"  # type: ignore[attr-defined]
    path.unlink(missing_ok=True)
    ledger = Ledger(lambda _candidate: None, objectives=objectives)
    with StepLog(path) as log:
        ground = Ground(
            original=SEED_TEXT,
            train=TRAIN,
            validation=VALIDATION,
            bench=bench,
            proposer=writer,
            ledger=ledger,
            log=log,
            plan=plan or Plan(16, 2, 4, ("prompt",), seed),
            racing=racing,
            is_short=lambda trials: most_calls is not None and bench.calls + trials > most_calls,
        )
        ledger.baseline(SEED_TEXT, ground.trials([(SEED_TEXT, VALIDATION)])[0])
        ground.learnt = [trial.value for trial in ground.trials([(SEED_TEXT, TRAIN)])[0]]
        with contextlib.suppress(NoMoreCalls):
            search(ground)
    return Reached(worth(ledger.best().texts["prompt"]), bench.calls)


def reached_at_one_go(seed: int, folder: Path, most_calls: int) -> Reached:
    """Best of n, with as many candidates as the calls allow."""
    return reached(seed, folder, best_of_n, plan=Plan(1000, 1, 4, ("prompt",), seed), most_calls=most_calls)


def reached_blindly(seed: int, folder: Path, most_calls: int) -> Reached:
    """Random rewriting, with as many candidates as the calls allow."""
    return reached(seed, folder, random_rewrite, plan=Plan(1000, 1, 4, ("prompt",), seed), most_calls=most_calls)


def reached_by_bare_gepa(seed: int, most_calls: int) -> Reached:
    """GEPA as it comes: its own settings, its own budget."""
    bench, writer = RulesBench(seed), RulesWriter(seed)
    found = optimize(
        seed_candidate=dict(SEED_TEXT),
        trainset=list(TRAIN),
        valset=list(VALIDATION),
        adapter=_Bare(bench, writer),
        max_metric_calls=most_calls,
        logger=_Silence(),
        seed=seed,
    )
    return Reached(worth(found.best_candidate["prompt"]), bench.calls)


class _Bare:
    """The least that GEPA asks for."""

    def __init__(self, bench: RulesBench, writer: RulesWriter) -> None:
        self._bench = bench
        self._writer = writer

    def evaluate(self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """GEPA's adapter."""
        trials = [self._bench.trial(Piece(candidate, case)) for case in batch]
        scores = [trial.value or 0.0 for trial in trials]
        return EvaluationBatch(outputs=scores, scores=scores, trajectories=list(zip(batch, trials, strict=True)))

    def make_reflective_dataset(self, _candidate: Any, batch: Any, names: list[str]) -> dict[str, Any]:
        """GEPA's adapter."""
        return {name: [{"seen": pair} for pair in batch.trajectories] for name in names}

    def propose_new_texts(self, candidate: dict[str, str], shown: Any, names: list[str]) -> dict[str, str]:
        """GEPA's adapter."""
        failed = [case for case, trial in (entry["seen"] for entry in shown[names[0]]) if not trial.value]
        return self._writer.write(candidate, failed)


class _Silence:
    def log(self, _message: str) -> None:
        """GEPA's logger."""
