"""
What half of the labels teach about the judges: how much each counts, or from which confidence on they are believed.

The other half is what is reported on, so that nothing is measured where it was learnt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from overmind_executors.judge_scoring.labels import is_for_learning
from overmind_executors.judge_scoring.lines import reweighed, withheld
from overmind_executors.judge_scoring.parameters import JudgeParameters
from overmind_executors.judging.abstention import confidence_needed


class Lessons:
    """Shown all lines of a job; then says each as it is once the labels have been heard."""

    def __init__(self, judge: JudgeParameters) -> None:
        self._judge = judge
        self._seen: list[tuple[float, bool]] = []
        self._agreed: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def add(self, line: Mapping[str, Any]) -> None:
        """One line; only what has a label to learn from teaches anything."""
        judge, label = line["judge"], line["label"]
        if not judge or not label or label["passes"] is None or not is_for_learning(line["item_id"]):
            return
        if judge["confidence"] is not None and judge["passes"] is not None:
            self._seen.append((judge["confidence"], judge["passes"] == label["passes"]))
        for opinion in judge["opinions"]:
            if opinion["passes"] is not None:
                self._asked[opinion["judge"]] += 1
                self._agreed[opinion["judge"]] += opinion["passes"] == label["passes"]

    def learnt(self) -> dict[str, Any]:
        """For the summary: `confidence_needed` and `weights`, None where nothing was to be learnt."""
        target = self._judge.target_agreement
        return {
            "confidence_needed": None if target is None else confidence_needed(self._seen, target=target),
            "weights": self._weights() if self._judge.panel == "weighted" else None,
        }

    def revised(self, line: dict[str, Any], learnt: Mapping[str, Any]) -> dict[str, Any]:
        """*line* in the light of what was learnt."""
        if self._judge.panel == "weighted":
            return reweighed(line, learnt["weights"], passes_at=self._judge.passes_at or 0.0)
        return withheld(line, learnt["confidence_needed"])

    def _weights(self) -> dict[str, float]:
        """
        The logarithm of each judge's odds of agreeing with people, one agreement and one disagreement added; none
        below 0, for a judge that is mostly wrong is not believed the other way round. Without labels all count 1.

        Source:
            S. Nitzan, J. Paroush, "Optimal decision rules in uncertain dichotomous choice situations",
            International Economic Review 23, 1982.
        """
        if not self._asked:
            return dict.fromkeys(self._judge.models, 1.0)
        odds = {
            name: (self._agreed[name] + 1) / (self._asked[name] - self._agreed[name] + 1)
            for name in self._judge.models
        }
        weights = {name: max(0.0, math.log(one)) for name, one in odds.items()}
        if not any(weights.values()):
            return dict.fromkeys(self._judge.models, 1.0)
        return {name: round(one, 6) for name, one in weights.items()}
