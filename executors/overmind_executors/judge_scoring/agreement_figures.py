"""What labels say of the judges: agreement, its ceiling, calibration, the pass rate without their errors."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from overmind_executors.judge_scoring.labels import is_for_learning
from overmind_executors.judge_scoring.parameters import JUDGE, JudgeScoringParameters
from overmind_executors.statistics.agreement import (
    NoStatistics,
    cohens_kappa,
    confusion,
    kappa_interval,
    krippendorffs_alpha,
)
from overmind_executors.statistics.corrected_rate import Sample, calibration, corrected_rate

FEWEST_LABELS: Final = 30
"""With fewer the figures are shown, and stamped `uncalibrated`."""

NOTABLE: Final = 0.02
"""So much more kappa of one member than of its panel is worth a word."""

_NONE: Final = -1.0
_EDGES: Final = (0.0, 0.2, 0.4, 0.6, 0.8)


class LabelledRows:
    """The labels of a job's rows beside what its judges say: eight bytes for each figure."""

    def __init__(self, task: JudgeScoringParameters) -> None:
        self._task = task
        self._learns = bool(task.judge and task.judge.learns)
        self._people = [array("d") for _ in (task.labels.fields if task.labels else ())]
        self._label = array("d")
        self._judge_passes = array("d")
        self._judge_value = array("d")
        members = task.judge.models if task.judge and len(task.judge.models) > 1 else ()
        self._members = {name: array("d") for name in members}
        self._others = [0, 0]  # rows beside the labelled ones: passed, judged

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line of the result."""
        label, judge = line["label"], line["judge"]
        passes = judge["passes"] if judge else None
        is_reported = label is not None and label["passes"] is not None
        if is_reported and self._learns and is_for_learning(line["item_id"]):
            is_reported = False
        if not is_reported:
            self._others[0] += passes is True
            self._others[1] += passes is not None
            return
        for person, value in zip(self._people, label["values"], strict=True):
            person.append(_NONE if value is None else value)
        self._label.append(label["passes"])
        self._judge_passes.append(_NONE if passes is None else passes)
        said = {one["judge"]: one["passes"] for one in judge["opinions"]} if judge else {}
        for name, member in self._members.items():
            member.append(_NONE if said.get(name) is None else said[name])
        value = line["scores"].get(JUDGE, {}).get("value")
        self._judge_value.append(_NONE if value is None else value)

    def facts(self, warnings: list[str]) -> dict[str, Any] | None:
        """The figures; None without labels or judges. What cannot be had is put into *warnings*."""
        if self._task.labels is None or self._task.judge is None:
            return None
        pairs = [
            (bool(passes), bool(label))
            for passes, label in zip(self._judge_passes, self._label, strict=True)
            if passes != _NONE
        ]
        found: dict[str, Any] = {
            "labelled": len(self._label),
            "compared": len(pairs),
            "calibrated": len(pairs) >= FEWEST_LABELS,
        }
        if not pairs:
            return found
        try:
            found |= {**self._of_pairs(pairs), **self._of_people(), "judges": self._of_members()}
        except NoStatistics as error:
            warnings.append(str(error))
        else:
            warnings.extend(self._outvoted(found))
        return found

    def _of_members(self) -> dict[str, Any] | None:
        """How far each judge of a panel agrees with people, by itself; None for one judge."""
        found = {}
        for name, member in self._members.items():
            pairs = _both(_known(member), _known(self._label))
            kappa = cohens_kappa(*confusion(pairs)) if pairs else None
            found[name] = {"compared": len(pairs), "cohens_kappa": _rounded(kappa)}
        return found or None

    def _outvoted(self, found: Mapping[str, Any]) -> list[str]:
        """A word where one judge would do better without the others, and labels could have told them apart."""
        kappa, judges = found["cohens_kappa"], found["judges"] or {}
        known = {name: one["cohens_kappa"] for name, one in judges.items() if one["cohens_kappa"] is not None}
        if not (found["calibrated"] and known and kappa is not None) or self._learns:
            return []
        best = max(known, key=lambda name: known[name])
        if known[best] <= kappa + NOTABLE:
            return []
        than = f"(kappa {known[best]:.2f}, {kappa:.2f})"
        word = f"judge {best} agrees with people better than the panel does {than}: the others outvote it"
        return [f"{word}; panel 'weighted' counts each by its agreement"]

    def _of_pairs(self, pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
        counts = confusion(pairs)
        both, alone, missed, neither = counts
        sensitivity, specificity = Sample(both, both + missed), Sample(neither, neither + alone)
        interval = kappa_interval(counts)
        values = [
            (value, bool(label))
            for value, label in zip(self._judge_value, self._label, strict=True)
            if value != _NONE
        ]
        return {
            "confusion": {
                "both_pass": both,
                "judge_alone_passes": alone,
                "people_alone_pass": missed,
                "neither": neither,
            },
            "raw_agreement": round((both + neither) / len(pairs), 6),
            "cohens_kappa": _rounded(cohens_kappa(*counts)),
            "kappa_interval_95": [round(end, 6) for end in interval] if interval else None,
            "sensitivity": round(sensitivity.share, 6) if sensitivity.total else None,
            "specificity": round(specificity.share, 6) if specificity.total else None,
            "label_pass_rate": round((both + missed) / len(pairs), 6),
            "judge_pass_rate": round(self._others[0] / self._others[1], 6) if self._others[1] else None,
            "corrected_pass_rate": self._corrected(sensitivity, specificity),
            "calibration": calibration(values, _EDGES) if values else None,
        }

    def _corrected(self, sensitivity: Sample, specificity: Sample) -> dict[str, Any]:
        """Of the rows without a label; the labelled ones, which the errors are known from, are a sample apart."""
        if not self._others[1]:
            return {"rate": None, "code": "every_row_has_a_label"}
        found = corrected_rate(Sample(*self._others), sensitivity, specificity)
        if found is None:
            return {"rate": None, "code": "judge_is_at_chance_or_labels_are_of_one_kind"}
        return {"rate": round(found.rate, 6), "interval_95": [round(found.low, 6), round(found.high, 6)]}

    def _of_people(self) -> dict[str, Any]:
        """Agreement among people, which no judge can be expected to exceed."""
        threshold = self._task.labels.pass_threshold if self._task.labels else 0.5
        people = [[None if v == _NONE else float(v >= threshold) for v in person] for person in self._people]
        judge = _known(self._judge_passes)
        between = [cohens_kappa(*confusion(_both(one, other))) for one, other in itertools.combinations(people, 2)]
        known = [kappa for kappa in between if kappa is not None]
        return {
            "krippendorffs_alpha": _rounded(krippendorffs_alpha([judge, list(self._label)], level="nominal")),
            "people": {
                "raters": len(people),
                "krippendorffs_alpha": _rounded(krippendorffs_alpha(people, level="nominal"))
                if len(people) > 1
                else None,
                "mean_pairwise_kappa": _rounded(sum(known) / len(known)) if known else None,
            },
        }


def _known(values: Sequence[float]) -> list[float | None]:
    return [None if value == _NONE else value for value in values]


def _both(one: Sequence[float | None], other: Sequence[float | None]) -> list[tuple[bool, bool]]:
    pairs = zip(one, other, strict=True)
    return [(bool(a), bool(b)) for a, b in pairs if a is not None and b is not None]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
