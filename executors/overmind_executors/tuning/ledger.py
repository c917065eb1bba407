"""Every candidate of a search and what became of it: the one list that the report, the record and the log show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from overmind_executors.statistics.ties import TIE
from overmind_executors.tuning.constraints import Code, Objection
from overmind_executors.tuning.merits import (
    CandidateLimits,
    Merits,
    Objective,
    is_beaten,
    merits_of,
    objectives_of,
)
from overmind_executors.tuning.texts import Texts, digest
from overmind_executors.tuning.trials import Trial

BASELINE = "baseline"
USD_DIGITS: Final = 10
_NOTHING: Final = Merits(None, None, None, 0)
_WORST: Final = float("-inf")
_SLOW: Final = "most calls with it ran out of time"


@dataclass(frozen=True)
class Candidate:
    """
    Attributes:
        name: `baseline`, or `i02c3` for the third candidate of the second iteration.
        parent: the name of what it was written from, empty for the baseline.
        values: on the validation rows, in their order, None for no score; empty when it was not tried on all.
        mean: over the rows that the prompt as it was has a score for. Where the candidate has none it counts as the
            prompt's, so that nobody gains by failing on hard rows, and a provider's bad moment costs nothing. None
            when it was not tried on all, or has no score at all.
        gate_failures: rows whose output failed a gate.
    """

    order: int
    name: str
    texts: Texts
    parent: str
    code: Code
    message: str = ""
    values: tuple[float | None, ...] = ()
    mean: float | None = None
    merits: Merits = _NOTHING
    gate_failures: int = 0

    @property
    def length(self) -> int:
        """Characters of all texts together."""
        return _length(self.texts)

    @property
    def cost_usd(self) -> float | None:
        """Of one request, in the mean; None when a price is unknown."""
        return self.merits.cost_usd

    @property
    def may_win(self) -> bool:
        """Whether it was tried on all rows, and keeps to gates and limits."""
        return self.mean is not None and self.code not in (Code.DISCARD_GATE, Code.DISCARD_CONSTRAINT)

    def as_json(self) -> dict[str, Any]:
        """A line of `candidates.jsonl`."""
        merits = self.merits
        return {
            "order": self.order,
            "name": self.name,
            "parent": self.parent or None,
            "code": self.code.value,
            "message": self.message,
            "validation_mean": _rounded(self.mean, 6),
            "values": list(self.values),
            "cost_usd": _rounded(merits.cost_usd, USD_DIGITS),
            "mean_ms": _rounded(merits.mean_ms, 3),
            "p95_ms": _rounded(merits.p95_ms, 3),
            "prompt_tokens": _rounded(merits.prompt_tokens, 2),
            "gate_failures": self.gate_failures,
            "texts": dict(self.texts),
        }

    @classmethod
    def of_json(cls, line: Mapping[str, Any], known: Sequence[float | None]) -> Candidate:
        """What `as_json` wrote, its figures as it rounded them; *known* are the values of the baseline."""
        values, texts, mean_ms = tuple(line["values"]), line["texts"], line["mean_ms"]
        latencies = () if mean_ms is None else (mean_ms,)
        return cls(
            order=line["order"],
            name=line["name"],
            texts=texts,
            parent=line["parent"] or "",
            code=Code(line["code"]),
            message=line["message"],
            values=values,
            mean=mean_of(values, known) if any(value is not None for value in values) else None,
            merits=Merits(line["cost_usd"], line["p95_ms"], line["prompt_tokens"], _length(texts), latencies),
            gate_failures=line["gate_failures"],
        )


@dataclass
class Ledger:
    """
    Attributes:
        on_candidate: told of each candidate that was tried on the validation rows, at once.
        on_line: told of each candidate, whatever became of it.
        limits: what a candidate must keep to.
        objectives: in which respects a candidate may be better than those before it.
    """

    on_candidate: Callable[[Candidate], None]
    limits: CandidateLimits = field(default_factory=CandidateLimits)
    objectives: Sequence[Objective] = ("quality",)
    on_line: Callable[[Candidate], None] = lambda _one: None
    candidates: list[Candidate] = field(default_factory=list)
    iteration: int = 0
    _in_iteration: Counter[int] = field(default_factory=Counter)
    _known: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_lines(cls, lines: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> Ledger:
        """Of a search that is over: what the *lines* of `candidates.jsonl` say of it."""
        known = lines[0]["values"]
        found = [Candidate.of_json(line, known) for line in lines]
        return cls(lambda _one: None, objectives=objectives, candidates=found)

    def baseline(self, texts: Texts, trials: Sequence[Trial]) -> Candidate:
        """The prompt as it was."""
        return self._add(BASELINE, texts, "", Code.KEEP_BETTER, trials=trials)

    def seen_before(self, texts: Texts) -> bool:
        """Whether these texts are a candidate already, be it with other blanks."""
        return _folded(texts) in self._known

    def refused(self, texts: Texts, parent: Texts, objection: Objection) -> None:
        """A candidate that was never tried."""
        self._add(self._name(), texts, self._parent(parent), objection.code, objection.message)

    def screened(
        self, texts: Texts, parent: Texts, message: str = "no better on the rows that it was written from"
    ) -> None:
        """A candidate that was tried on a few rows, and not on more."""
        self._add(self._name(), texts, self._parent(parent), Code.DISCARD_SCREEN, message)

    def tried(self, texts: Texts, parent: Texts, trials: Sequence[Trial]) -> Candidate:
        """A candidate with its trials on the validation rows."""
        code, message = self._judged(texts, trials)
        return self._add(self._name(), texts, self._parent(parent), code, message, trials)

    def best(self) -> Candidate:
        """
        The one with the highest mean. Of equal ones the baseline, for a change needs a gain; then the cheapest, the
        shortest, the earliest.
        """
        kept = [one for one in self.candidates if one.may_win]
        is_priced = all(one.cost_usd is not None for one in kept)
        return max(
            kept,
            key=lambda one: (
                round(one.mean or 0.0, 9),
                not one.order,
                # As the file has it, so that it names the same one.
                -round(one.cost_usd or 0.0, USD_DIGITS) if is_priced else 0.0,
                -one.length,
                -one.order,
            ),
        )

    def objectives_at(self, texts: Texts, trials: Sequence[Trial]) -> Mapping[str, float]:
        """
        How good *trials* are in each respect in which the baseline is known; more is better.

        What is worse than the prompt as it was is worse in all respects: nobody is kept for being short alone.
        """
        mean = self._mean(trials)
        found = {**self.no_objectives(), **self._objectives(mean, merits_of(texts, trials))}
        is_worse = mean < (self.candidates[0].mean or 0.0) - TIE
        return {name: _WORST if is_worse and name != "quality" else found[name] for name in self.no_objectives()}

    def no_objectives(self) -> dict[str, float]:
        """The worst there is, in each of those respects."""
        first = self.candidates[0]
        return dict.fromkeys(self._objectives(first.mean or 0.0, first.merits), _WORST)

    def lineage(self, one: Candidate) -> list[Candidate]:
        """From the baseline to *one*, each written from the one before it."""
        named = {known.name: known for known in self.candidates}
        line = [one]
        while line[0].parent:
            line.insert(0, named[line[0].parent])
        return line

    def frontier(self) -> list[Candidate]:
        """Those that no other one beats in all objectives, none of them worse than the prompt as it was."""
        least = self.candidates[0].mean or 0.0
        good = [one for one in self.candidates if one.may_win and (one.mean or 0.0) >= least - TIE]
        scores = [self._objectives(one.mean or 0.0, one.merits) for one in good]
        return [
            one
            for one, mine in zip(good, scores, strict=True)
            if not any(is_beaten(mine, other) and not is_beaten(other, mine) for other in scores)
        ]

    def counts(self) -> Mapping[str, int]:
        """How many candidates ended how, the baseline not counted."""
        return dict(sorted(Counter(one.code.value for one in self.candidates[1:]).items()))

    def _judged(self, texts: Texts, trials: Sequence[Trial]) -> tuple[Code, str]:
        """What becomes of it, and why. The order of the questions is the rule."""
        if all(trial.value is None for trial in trials):
            is_slow = sum(trial.kind == "timeout" for trial in trials) * 2 > len(trials)
            return (Code.TIMEOUT, _SLOW) if is_slow else (Code.CRASH, "no output of it could be scored")
        failures, before = _gate_failures(trials), self.candidates[0].gate_failures
        if failures > before:
            return Code.DISCARD_GATE, f"its outputs fail a gate on {failures} rows, those of the prompt on {before}"
        if (broken := merits_of(texts, trials).broken(self.limits)) is not None:
            return Code.DISCARD_CONSTRAINT, broken
        earlier = [one for one in self.candidates if one.may_win]
        mean = self._mean(trials)
        if mean > max(one.mean or 0.0 for one in earlier):
            return Code.KEEP_BETTER, "the best mean so far on the validation rows"
        best_on_row = [max(one.values[place] or 0.0 for one in earlier) for place in range(len(trials))]
        if any((trial.value or 0.0) > best for trial, best in zip(trials, best_on_row, strict=True)):
            return Code.KEEP_PARETO, "better than all before on some validation row"
        if self._is_new_in_some_respect(mean, merits_of(texts, trials), earlier):
            return Code.KEEP_PARETO, "no worse than the prompt, and none before beats it in all objectives"
        return Code.DISCARD_WORSE, "on no validation row better than those before"

    def _is_new_in_some_respect(self, mean: float, merits: Merits, earlier: Sequence[Candidate]) -> bool:
        if mean < (self.candidates[0].mean or 0.0) - TIE:
            return False
        mine = self._objectives(mean, merits)
        return not any(is_beaten(mine, self._objectives(one.mean or 0.0, one.merits)) for one in earlier)

    def _objectives(self, mean: float, merits: Merits) -> dict[str, float]:
        return objectives_of(mean, merits, self.objectives)

    def _mean(self, trials: Sequence[Trial]) -> float:
        """See `Candidate.mean`."""
        known = self.candidates[0].values if self.candidates else tuple(trial.value for trial in trials)
        return mean_of([trial.value for trial in trials], known) or 0.0

    def _parent(self, texts: Texts) -> str:
        return self._known.get(_folded(texts), "")

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
        is_scored = any(trial.value is not None for trial in trials)
        made = Candidate(
            len(self.candidates),
            name,
            dict(texts),
            parent,
            code,
            message,
            tuple(trial.value for trial in trials),
            self._mean(trials) if is_scored else None,
            merits_of(texts, trials) if trials else _NOTHING,
            _gate_failures(trials),
        )
        self.candidates.append(made)
        self._known.setdefault(_folded(texts), name)
        self.on_line(made)
        if trials:
            self.on_candidate(made)
        return made


def mean_of(values: Sequence[float | None], baseline: Sequence[float | None]) -> float | None:
    """The mean of *values* over the rows that *baseline* has a score for, which stands in where they have none."""
    pairs = [(value, known) for value, known in zip(values, baseline, strict=True) if known is not None]
    return fmean(known if value is None else value for value, known in pairs) if pairs else None


def _length(texts: Texts) -> int:
    return sum(map(len, texts.values()))


def _gate_failures(trials: Sequence[Trial]) -> int:
    return sum(trial.gate_failed for trial in trials)


def _folded(texts: Texts) -> str:
    """Equal for texts that differ in blanks alone: trying those again would only throw the dice again."""
    return digest({name: " ".join(text.split()) for name, text in texts.items()})


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
