"""
What a candidate is worth in each respect, and what it must keep to: quality, money, latency, length.

Quality alone promotes. The other respects say which candidates a search goes on with, and which it may not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from overmind_executors.figures import in_words, percentile
from overmind_executors.parameters import Parameters
from overmind_executors.statistics.ties import TIE
from overmind_executors.tuning.texts import Texts
from overmind_executors.tuning.trials import Trial

Objective = Literal["quality", "cost", "latency", "length"]
_SLOWEST: Final = 0.95


class CandidateLimits(Parameters):
    """
    What a candidate must keep to, on the rows that choose and on those that decide; None is no limit.

    Attributes:
        max_usd_per_request: in the mean, judging not counted.
        max_p95_ms: of the calls that answered.
        max_prompt_tokens: of a request as the model's server counts them, in the mean.
    """

    max_usd_per_request: Annotated[float, Field(ge=0)] | None = None
    max_p95_ms: Annotated[float, Field(gt=0)] | None = None
    max_prompt_tokens: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True)
class Merits:
    """
    What some trials of one candidate came to.

    Attributes:
        cost_usd: of a request, in the mean, judging not counted; None when a price is unknown.
        p95_ms, latencies_ms: of the calls that answered; None for none.
        prompt_tokens: of a request, in the mean; None when the server did not count them.
        length: characters of all texts together.
    """

    cost_usd: float | None
    p95_ms: float | None
    prompt_tokens: float | None
    length: int
    latencies_ms: tuple[float, ...] = ()

    @property
    def mean_ms(self) -> float | None:
        """The mean latency."""
        return fmean(self.latencies_ms) if self.latencies_ms else None

    def broken(self, limits: CandidateLimits) -> str | None:
        """The first of *limits* that is not kept, in words; what was not measured is not kept."""
        for what, unit, is_, most in (
            ("a request costs", "US dollars", self.cost_usd, limits.max_usd_per_request),
            ("the 95th percentile of latency is", "ms", self.p95_ms, limits.max_p95_ms),
            ("a request has", "prompt tokens", self.prompt_tokens, limits.max_prompt_tokens),
        ):
            if most is not None and (is_ is None or is_ > most):
                if is_ is None:
                    return f"{what} an unknown number of {unit}"
                return f"{what} {in_words(is_)} {unit}, more than {in_words(most)}"
        return None


def merits_of(texts: Texts, trials: Sequence[Trial]) -> Merits:
    """What *trials* of *texts* came to; a trial without an answer cost nothing that is known, and took no time."""
    asked = [trial for trial in trials if trial.is_answered]
    latencies = tuple(trial.latency_ms for trial in asked)
    return Merits(
        _mean([trial.cost_usd for trial in asked]),
        percentile(sorted(latencies), _SLOWEST),
        _mean([trial.prompt_tokens for trial in asked]),
        sum(map(len, texts.values())),
        latencies,
    )


def objectives_of(mean: float, merits: Merits, wanted: Sequence[Objective]) -> dict[str, float]:
    """
    More is better in each; a respect in which nothing is known is left out.

    Args:
        mean: of quality, in 0 to 1.
    """
    known: Mapping[str, Any] = {
        "quality": mean,
        "cost": merits.cost_usd if merits.cost_usd is None else -round(merits.cost_usd, 12),
        "latency": merits.mean_ms if merits.mean_ms is None else -merits.mean_ms,
        "length": float(-merits.length),
    }
    return {name: known[name] for name in wanted if known[name] is not None}


def is_beaten(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether *other* is at least as good as *one* in every respect that both have."""
    shared = one.keys() & other.keys()
    return bool(shared) and all(other[name] >= one[name] - TIE for name in shared)


def _mean(values: Sequence[float | None]) -> float | None:
    """None as soon as one of them is unknown."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
