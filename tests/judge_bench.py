"""
Judges in simulation: their errors are drawn, so what is said of them can be held against what is true.

Nothing is asked; the figures are made by the code that makes those of a job. For the tests and for measuring more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from overmind_executors.judge_scoring.lessons import Lessons
from overmind_executors.judge_scoring.pair_figures import PairFigures
from overmind_executors.judge_scoring.parameters import JudgeParameters
from overmind_executors.judging.abstention import confidence_needed
from overmind_executors.statistics.agreement import cohens_kappa, confusion
from overmind_executors.statistics.corrected_rate import Sample, corrected_rate

Dice = np.random.Generator
LEVELS = np.array([0.6, 0.7, 0.8, 0.9, 0.97])


def rate_is_held(dice: Dice, truth: float, *, rows: int = 400, labels: int = 150) -> tuple[bool, bool]:
    """
    One job of a judge with sensitivity 0.9 and specificity 0.8: whether the interval of the corrected rate holds
    *truth*, and whether that of the judge's own rate does.
    """
    fine = int(dice.binomial(labels, truth))
    let_pass = int(dice.binomial(rows, 0.9 * truth + 0.2 * (1 - truth)))
    right, caught = int(dice.binomial(fine, 0.9)), int(dice.binomial(labels - fine, 0.8))
    found = corrected_rate(Sample(let_pass, rows), Sample(right, fine), Sample(caught, labels - fine))
    share = let_pass / rows
    own = 1.96 * (share * (1 - share) / rows) ** 0.5
    return found is not None and found.low <= truth <= found.high, abs(share - truth) <= own


@dataclass(frozen=True)
class Believed:
    """Of fresh labels: the share on which the judge is believed, and how often it then agrees; None for never."""

    coverage: float
    agreement: float | None


def believed(dice: Dice, *, target: float, labels: int = 120, fresh: int = 1000) -> Believed:
    """One job: a judge that is right with the probability that it gives as its confidence."""

    def draws(number: int) -> tuple[Any, Any]:
        confidence = dice.choice(LEVELS, number)
        return confidence, dice.random(number) < confidence

    seen = draws(labels)
    needed = confidence_needed(list(zip(*(column.tolist() for column in seen), strict=True)), target=target)
    if needed is None:
        return Believed(0.0, None)
    confidence, agrees = draws(fresh)
    kept = confidence >= needed
    return Believed(float(kept.mean()), float(agrees[kept].mean()))


def jury(
    dice: Dice, members: Sequence[tuple[float, float]], *, rows: int = 800, labels: int = 200
) -> tuple[float, float]:
    """
    The kappa of a weighted panel with the truth, and that of its best member, on rows that nothing was learnt from.

    Args:
        members: sensitivity and specificity of each; their errors have nothing to do with each other.
    """
    names = [f"judge{n}" for n in range(len(members))]
    lessons = Lessons(JudgeParameters(models=names, panel="weighted", pass_threshold=0.5))
    truth = dice.random(rows + labels) < 0.5
    rates = np.array(members)
    says = np.where(truth[:, None], dice.random((rows + labels, len(members))) < rates[:, 0],
                    dice.random((rows + labels, len(members))) >= rates[:, 1])  # fmt: skip
    lines = [_line(n, bool(fine), dict(zip(names, map(bool, row), strict=True)))
             for n, (fine, row) in enumerate(zip(truth, says, strict=True))]  # fmt: skip
    for line in lines[:labels]:
        lessons.add(line)
    learnt = lessons.learnt()
    fresh = list(enumerate(lines))[labels:]
    panel = [(lessons.revised(line, learnt)["judge"]["passes"], bool(truth[n])) for n, line in fresh]
    best = max(
        cohens_kappa(*confusion([(bool(says[n, m]), bool(truth[n])) for n, _ in fresh])) or 0.0
        for m in range(len(members))
    )
    return cohens_kappa(*confusion(panel)) or 0.0, best


def _line(number: int, fine: bool, says: dict[str, bool]) -> dict[str, Any]:
    """What a line of `scores.jsonl` has that weights are learnt from and put on."""
    opinions = [
        {"judge": name, "value": float(word), "agreement": 1.0, "passes": word} for name, word in says.items()
    ]
    return {
        "item_id": f"r{number}",
        "outcome": "scored",
        "correctness": sum(says.values()) / len(says),
        "code": None,
        "scores": {},
        "judge": {"confidence": 1.0, "passes": None, "opinions": opinions},
        "label": {"passes": fine},
    }


def pairs(dice: Dice, *, bias: float, won: float, number: int = 4000) -> tuple[dict[str, Any], float]:
    """
    What is told of *number* pairs, and the share of them that the output truly wins: drawn with probability *won*.

    The judge sees who is better, but names the first output with probability *bias*, whatever the two hold.
    """
    wins = dice.random(number) < won
    blind = dice.random(number) < bias
    figures = PairFigures()
    for better, is_blind in zip(wins.tolist(), blind.tolist(), strict=True):
        orders = ("A", "A") if is_blind else ("A", "B") if better else ("B", "A")
        figures.add({"opinions": [{"orders": [orders]}]})
    return figures.facts() or {}, float(wins.mean())
