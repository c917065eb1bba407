"""
Metrics of all rows together: each row gives a small part, and the parts of all rows give one score.

The parts stand in the lines of the result, so whoever has the lines can make the score again.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from overmind_executors import strict_json
from overmind_executors.parameters import Parameters
from overmind_executors.scoring.case_score import as_number
from overmind_executors.scoring.evaluator import INSTALL_SCORING, NoField, NotInstalled, expected_of, field_of
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Score, abstained, scored
from overmind_executors.scoring.text_checks import rapidfuzz_distance
from overmind_executors.scoring.texts import as_text, folded
from overmind_executors.statistics.corrected_rate import calibration

Parts = Sequence[tuple[Any, int]]
"""Different parts, and how many rows gave each."""

MOST_CLASSES = 1000
_TENTHS = tuple(n / 10 for n in range(10))
_ENDS = {
    "strip": lambda text: text.strip(),
    "first_word": lambda text: (text.split() or [""])[0],
    "last_word": lambda text: (text.split() or [""])[-1],
    "first_line": lambda text: (text.strip().splitlines() or [""])[0],
    "last_line": lambda text: (text.strip().splitlines() or [""])[-1],
}


class Metric(Parameters):
    """
    One metric over all rows that have an output and a reference.

    Attributes:
        output_normalize: applied to outputs only, never to references.
        min_n: with fewer rows it abstains.
    """

    kind: str
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.:/ -]+$")] | None = None
    output_normalize: Literal["strip", "first_word", "last_word", "first_line", "last_line"] = "strip"
    case_sensitive: bool = False
    min_n: Annotated[int, Field(ge=1)] = 1
    needs_reference: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Under which its score is shown."""
        return self.name or self.kind

    def prepare(self) -> None:
        """Load what is needed; raises NotInstalled."""

    def part(self, item: Item) -> Any:
        """What the row adds, as JSON; None when it adds nothing."""
        if item.absence or (self.needs_reference and item.expected is None):
            return None
        return self.of_texts(self.folded_output(item.output), self.folded(item.expected))

    def folded(self, value: Any) -> str:
        """*value* as the metric compares it."""
        return (str.strip if self.case_sensitive else folded)(as_text(value))

    def folded_output(self, output: Any) -> str:
        """The same of an output, whose part is taken first."""
        return self.folded(_ENDS[self.output_normalize](as_text(output)))

    def score(self, parts: Parts) -> Score:
        """The score of all *parts*."""
        rows = sum(count for _, count in parts)
        return self.of_parts(parts, rows) if rows >= self.min_n else abstained("too_few_rows")

    @abstractmethod
    def of_texts(self, said: str, wanted: str) -> Any:
        """The part of one row."""

    @abstractmethod
    def of_parts(self, parts: Parts, rows: int) -> Score:
        """The score of at least *min_n* rows."""


class Classification(Metric):
    """`accuracy`, or `precision`, `recall`, `f1` over the classes that the references have."""

    kind: Literal["accuracy", "precision", "recall", "f1"]
    average: Literal["macro", "micro", "weighted"] = "macro"

    def of_texts(self, said: str, wanted: str) -> Any:
        return [_short(said), _short(wanted)]

    def of_parts(self, parts: Parts, rows: int) -> Score:
        pairs = Counter({(said, wanted): count for (said, wanted), count in parts})
        hits = Counter({wanted: n for (said, wanted), n in pairs.items() if said == wanted})
        if self.kind == "accuracy" or self.average == "micro":
            return scored(hits.total() / rows)
        wanted = Counter[str]()
        said = Counter[str]()
        for (one, other), count in pairs.items():
            said[one] += count
            wanted[other] += count
        if len(wanted) > MOST_CLASSES:
            return abstained("too_many_classes")
        weights = {name: wanted[name] if self.average == "weighted" else 1 for name in wanted}
        values = {name: self._of_class(hits[name], said[name], wanted[name]) for name in wanted}
        return scored(math.fsum(weights[n] * values[n] for n in wanted) / sum(weights.values()))

    def _of_class(self, hits: int, said: int, wanted: int) -> float:
        if self.kind == "f1":
            return 2 * hits / (said + wanted)
        whole = said if self.kind == "precision" else wanted
        return hits / whole if whole else 0.0


class MeanOfRows(Metric):
    """`exact_match_rate`; `rouge_l`: F1 of the longest common subsequence of words; `chrf`: of each row."""

    kind: Literal["exact_match_rate", "rouge_l", "chrf"]

    def prepare(self) -> None:
        {"exact_match_rate": lambda: None, "rouge_l": rapidfuzz_distance, "chrf": _sacrebleu}[self.kind]()

    def of_texts(self, said: str, wanted: str) -> Any:
        if self.kind == "exact_match_rate":
            return float(said == wanted)
        if self.kind == "chrf":
            chrf = _sacrebleu().CHRF(char_order=6, word_order=2, beta=2)
            return round(chrf.sentence_score(said, [wanted]).score / 100, 6)
        one, other = re.findall(r"\w+", said), re.findall(r"\w+", wanted)
        common = rapidfuzz_distance().LCSseq.similarity(one, other)
        return round(2 * common / (len(one) + len(other)), 6) if one or other else 0.0

    def of_parts(self, parts: Parts, rows: int) -> Score:
        return scored(math.fsum(value * count for value, count in parts) / rows)


class Bleu(Metric):
    """Corpus BLEU with sacrebleu's tokens and smoothing; a row's part is its counts of n-grams."""

    kind: Literal["bleu"] = "bleu"

    def prepare(self) -> None:
        _sacrebleu()

    def of_texts(self, said: str, wanted: str) -> Any:
        found = _sacrebleu().BLEU(effective_order=True).sentence_score(said, [wanted])
        return [list(map(int, found.counts)), list(map(int, found.totals)), int(found.sys_len), int(found.ref_len)]

    def of_parts(self, parts: Parts, rows: int) -> Score:  # noqa: ARG002 - what others need
        orders = range(len(parts[0][0][0]))
        counts, totals = (
            [sum(part[place][n] * count for part, count in parts) for n in orders] for place in (0, 1)
        )
        lengths = [sum(part[place] * count for part, count in parts) for place in (2, 3)]
        found = _sacrebleu().BLEU.compute_bleu(counts, totals, *lengths, smooth_method="exp")
        return scored(found.score / 100)


class DuplicateRate(Metric):
    """The share of outputs that an earlier row has word for word; 0 is good."""

    kind: Literal["duplicate_rate"] = "duplicate_rate"
    needs_reference: ClassVar[bool] = False

    def of_texts(self, said: str, wanted: str) -> Any:  # noqa: ARG002  # it has no reference
        import hashlib

        return hashlib.sha256(strict_json.canonical(said)).hexdigest()[:16]

    def of_parts(self, parts: Parts, rows: int) -> Score:
        return scored(1 - len(parts) / rows)


class Calibration(Metric):
    """
    The expected calibration error of what outputs say of themselves: the mean distance, over tenths, between the
    stated confidence and the share that is right; 0 is good.

    Attributes:
        confidence: a field of the row, or of the JSON in its output, with a number from 0 to 1; a row without one
            adds nothing.
        field: of the output, and of what is expected if that has fields; None for the whole.
    """

    kind: Literal["calibration"] = "calibration"
    confidence: Annotated[str, Field(min_length=1)] = "confidence"
    field: str | None = None

    def part(self, item: Item) -> Any:
        if item.absence:
            return None
        try:
            stated = item.source.get(self.confidence)
            stated = as_number(field_of(item, self.confidence) if stated is None else stated)
            said, wanted = field_of(item, self.field), expected_of(item, self.field)
        except (NoField, RecursionError):
            return None
        if stated is None or not 0 <= stated <= 1:
            return None
        return [round(stated, 6), self.of_texts(self.folded_output(said), self.folded(wanted))]

    def of_texts(self, said: str, wanted: str) -> Any:
        return said == wanted

    def of_parts(self, parts: Parts, rows: int) -> Score:  # noqa: ARG002 - what others need
        pairs = [(stated, is_right) for (stated, is_right), count in parts for _ in range(count)]
        return scored(calibration(pairs, _TENTHS)["ece"])


Metrics = Annotated[Classification | MeanOfRows | Bleu | DuplicateRate | Calibration, Field(discriminator="kind")]
"""One of them, chosen by its `kind`."""


def _short(label: str) -> str:
    """A class is a word or two; of a longer text the first characters do."""
    return label[:200]


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise NotInstalled(f"sacrebleu is not installed; {INSTALL_SCORING}") from None
    return metrics
