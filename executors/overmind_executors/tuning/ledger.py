"""Every candidate of a search and what became of it: the one list that the report, the record and the log show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from overmind_executors.tuning.constraints import Code, Objection
from overmind_executors.tuning.texts import Texts, digest
from overmind_executors.tuning.trials import Trial

BASELINE = "baseline"


@dataclass(frozen=True)
class Candidate:
    """
    Attributes:
        name: `baseline`, or `i02c3` for the third candidate of the second iteration.
        parent: the name of what it was written from, empty for the baseline.
        values: on the validation rows, in their order, None for no score; empty when it was not tried on them.
        cost_usd: of one trial on them, in the mean; None when a price is unknown.
        latencies_ms: of the calls that answered there.
    """

    order: int
    name: str
    texts: Texts
    parent: str
    code: Code
    message: str = ""
    values: tuple[float | None, ...] = ()
    cost_usd: float | None = None
    latencies_ms: tuple[float, ...] = ()

    @property
    def length(self) -> int:
        """Characters of all texts together."""
        return sum(map(len, self.texts.values()))

    @property
    def mean(self) -> float | None:
        """Over the rows that have a score."""
        scored = [value for value in self.values if value is not None]
        return fmean(scored) if scored else None

    def as_json(self) -> dict[str, Any]:
        """A line of `candidates.jsonl`."""
        mean = self.mean
        return {
            "order": self.order,
            "name": self.name,
            "parent": self.parent or None,
            "code": self.code.value,
            "message": self.message,
            "validation_mean": None if mean is None else round(mean, 6),
            "values": list(self.values),
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 10),
            "texts": dict(self.texts),
        }


@dataclass
class Ledger:
    """
    Attributes:
        on_candidate: told of each candidate that was tried on the validation rows, at once.
    """

    on_candidate: Callable[[Candidate], None]
    candidates: list[Candidate] = field(default_factory=list)
    iteration: int = 0
    _in_iteration: Counter[int] = field(default_factory=Counter)
    _known: dict[str, str] = field(default_factory=dict)

    def baseline(self, texts: Texts, trials: Sequence[Trial]) -> Candidate:
        """The prompt as it was."""
        return self._add(BASELINE, texts, "", Code.KEEP_BETTER, trials=trials)

    def seen_before(self, texts: Texts) -> bool:
        """Whether these very texts are a candidate already."""
        return digest(texts) in self._known

    def refused(self, texts: Texts, parent: Texts, objection: Objection) -> None:
        """A candidate that was never tried."""
        self._add(self._name(), texts, self._known.get(digest(parent), ""), objection.code, objection.message)

    def screened(self, texts: Texts, parent: Texts) -> None:
        """A candidate that was no better on a few rows, and was not tried on more."""
        message = "no better on the rows that it was written from"
        self._add(self._name(), texts, self._known.get(digest(parent), ""), Code.DISCARD_SCREEN, message)

    def tried(self, texts: Texts, parent: Texts, trials: Sequence[Trial]) -> Candidate:
        """A candidate with its trials on the validation rows."""
        code = self._code(trials)
        return self._add(self._name(), texts, self._known.get(digest(parent), ""), code, _MESSAGES[code], trials)

    def best(self) -> Candidate:
        """
        The one with the highest mean. Of equal ones the baseline, for a change needs a gain; then the cheapest, the
        shortest, the earliest.
        """
        kept = [one for one in self.candidates if one.mean is not None]
        is_priced = all(one.cost_usd is not None for one in kept)
        return max(
            kept,
            key=lambda one: (
                round(one.mean or 0.0, 9),
                not one.order,
                -(one.cost_usd or 0.0) if is_priced else 0.0,
                -one.length,
                -one.order,
            ),
        )

    def counts(self) -> Mapping[str, int]:
        """How many candidates ended how, the baseline not counted."""
        return dict(sorted(Counter(one.code.value for one in self.candidates[1:]).items()))

    def _code(self, trials: Sequence[Trial]) -> Code:
        values = _values(trials)
        scored = [value for value in values if value is not None]
        if not scored:
            is_slow = sum(trial.kind == "timeout" for trial in trials) * 2 > len(trials)
            return Code.TIMEOUT if is_slow else Code.CRASH
        earlier = [one for one in self.candidates if one.values]
        if fmean(scored) > max(one.mean or 0.0 for one in earlier):
            return Code.KEEP_BETTER
        best_on_row = [max(one.values[place] or 0.0 for one in earlier) for place in range(len(values))]
        is_first_somewhere = any((value or 0.0) > best for value, best in zip(values, best_on_row, strict=True))
        return Code.KEEP_PARETO if is_first_somewhere else Code.DISCARD_WORSE

    def _name(self) -> str:
        self._in_iteration[self.iteration] += 1
        return f"i{self.iteration:02d}c{self._in_iteration[self.iteration]}"

    def _add(
        self,
        name: str,
        texts: Texts,
        parent: str,
        code: Code,
        message: str = "",
        trials: Sequence[Trial] = (),
    ) -> Candidate:
        costs = [trial.cost_usd for trial in trials if trial.cost_usd is not None]
        made = Candidate(
            len(self.candidates),
            name,
            dict(texts),
            parent,
            code,
            message,
            _values(trials),
            fmean(costs) if trials and len(costs) == len(trials) else None,
            tuple(trial.latency_ms for trial in trials if trial.latency_ms),
        )
        self.candidates.append(made)
        self._known.setdefault(digest(texts), name)
        if trials:
            self.on_candidate(made)
        return made


_MESSAGES: Mapping[Code, str] = {
    Code.KEEP_BETTER: "the best mean so far on the validation rows",
    Code.KEEP_PARETO: "better than all before on some validation row",
    Code.DISCARD_WORSE: "on no validation row better than those before",
    Code.CRASH: "no output of it could be scored",
    Code.TIMEOUT: "most calls with it ran out of time",
}


def _values(trials: Sequence[Trial]) -> tuple[float | None, ...]:
    return tuple(trial.value for trial in trials)
