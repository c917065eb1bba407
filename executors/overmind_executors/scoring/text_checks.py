"""Evaluators that read an output as text."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from overmind_executors import strict_json
from overmind_executors.scoring.evaluator import INSTALL_SCORING, Evaluator, NotInstalled, expected_of, field_of
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.pattern_size import written_out
from overmind_executors.scoring.scores import Score, failed, not_applicable, passed, scored
from overmind_executors.scoring.texts import as_text, folded, keyword_coverage, similarity

# A pattern that backtracks for ever must not hold up a job; honest ones need microseconds.
REGEX_TIMEOUT_S: Final = 0.5
# Compiling has no time limit, and takes what it takes of memory.
MOST_WRITTEN_OUT: Final = 100_000
_MOST_COMPARED: Final = 100_000


class ExactMatch(Evaluator):
    """
    The output is the expected one: as text with case and white space folded, as JSON when something else than text
    is expected.
    """

    kind: Literal["exact_match"] = "exact_match"
    field: str | None = None
    case_sensitive: bool = False

    def score(self, item: Item) -> Score:
        said, wanted = field_of(item, self.field), expected_of(item, self.field)
        if isinstance(wanted, str):
            fold = str.strip if self.case_sensitive else folded
            return passed(fold(as_text(said)) == fold(wanted))
        return passed(_same_json(said, wanted))


def _same_json(said: Any, wanted: Any) -> bool:
    if isinstance(said, str):
        try:
            said = strict_json.loads(said)
        except strict_json.NotJson:
            return False
    return strict_json.canonical(said) == strict_json.canonical(wanted)


class Contains(Evaluator):
    """*value*, or what is expected, occurs in the output."""

    kind: Literal["contains"] = "contains"
    field: str | None = None
    value: Annotated[str, Field(min_length=1)] | None = None
    case_sensitive: bool = False

    def score(self, item: Item) -> Score:
        fold = str.strip if self.case_sensitive else folded
        wanted = self.value if self.value is not None else as_text(expected_of(item, self.field))
        return passed(fold(wanted) in fold(as_text(field_of(item, self.field))))


class Label(Evaluator):
    """The first of *labels* that stands in the output as a word is the expected one."""

    kind: Literal["label"] = "label"
    labels: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]

    def score(self, item: Item) -> Score:
        found = self._pattern.search(folded(as_text(item.output)))
        code = "" if found else "no_label"
        return passed(found is not None and found.group() == folded(as_text(expected_of(item, None))), code)

    @cached_property
    def _pattern(self) -> Any:
        import re

        # Longest first, so that of "not good" and "good" at one place the longer one is found.
        choices = "|".join(re.escape(folded(label)) for label in sorted(self.labels, key=len, reverse=True))
        return re.compile(rf"(?<!\w)(?:{choices})(?!\w)")


class Regex(Evaluator):
    """*pattern* is found in the output; with *full* it is all of it. A pattern that is none gives no score."""

    kind: Literal["regex"] = "regex"
    field: str | None = None
    pattern: Annotated[str, Field(min_length=1, max_length=10_000)]
    full: bool = False

    def prepare(self) -> None:
        _regex()

    def score(self, item: Item) -> Score:
        if written_out(self.pattern) > MOST_WRITTEN_OUT:
            return failed("regex_too_large")
        if self._compiled is None:
            return failed("invalid_regex")
        text = as_text(field_of(item, self.field))
        look = self._compiled.fullmatch if self.full else self._compiled.search
        try:
            return passed(look(text, timeout=REGEX_TIMEOUT_S, concurrent=True) is not None)
        except TimeoutError:
            return failed("regex_timeout")
        except MemoryError:
            return failed("regex_too_large")

    @cached_property
    def _compiled(self) -> Any:
        regex = _regex()
        try:
            return regex.compile(self.pattern)
        except regex.error:
            return None


def _regex() -> Any:
    try:
        import regex
    except ImportError:
        raise NotInstalled(f"regex is not installed; {INSTALL_SCORING}") from None
    return regex


class TextSimilarity(Evaluator):
    """The share of words that the output has in common with the expected text; see `texts.similarity`."""

    is_graded: ClassVar[bool] = True
    kind: Literal["text_similarity"] = "text_similarity"
    field: str | None = None

    def score(self, item: Item) -> Score:
        wanted = as_text(expected_of(item, self.field))
        return scored(similarity(as_text(field_of(item, self.field)), wanted))


class KeywordCoverage(Evaluator):
    """The share of the expected text's words that occur in the output; see `texts.keyword_coverage`."""

    is_graded: ClassVar[bool] = True
    kind: Literal["keyword_coverage"] = "keyword_coverage"
    field: str | None = None

    def score(self, item: Item) -> Score:
        share = keyword_coverage(as_text(field_of(item, self.field)), as_text(expected_of(item, self.field)))
        return not_applicable("no_keywords") if share is None else scored(share)


class EditSimilarity(Evaluator):
    """1 less the edit distance (Levenshtein) over the longer text's length; of the first 100,000 characters."""

    is_graded: ClassVar[bool] = True
    kind: Literal["edit_similarity"] = "edit_similarity"
    field: str | None = None

    def prepare(self) -> None:
        rapidfuzz_distance()

    def score(self, item: Item) -> Score:
        said = folded(as_text(field_of(item, self.field))[:_MOST_COMPARED])
        wanted = folded(as_text(expected_of(item, self.field))[:_MOST_COMPARED])
        return scored(rapidfuzz_distance().Levenshtein.normalized_similarity(said, wanted))


def rapidfuzz_distance() -> Any:
    """The module of distances; raises NotInstalled."""
    try:
        from rapidfuzz import distance
    except ImportError:
        raise NotInstalled(f"rapidfuzz is not installed; {INSTALL_SCORING}") from None
    return distance


class CardConstraints(Evaluator):
    """What an agent's card promises of every output: a length, words that must occur and words that must not."""

    kind: Literal["card_constraints"] = "card_constraints"
    min_characters: Annotated[int, Field(ge=0)] = 0
    max_characters: Annotated[int, Field(ge=1)] | None = None
    required: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    forbidden: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_something(self) -> CardConstraints:
        if not (self.min_characters or self.max_characters or self.required or self.forbidden):
            raise ValueError("name a constraint: min_characters, max_characters, required or forbidden")
        return self

    def score(self, item: Item) -> Score:
        text = as_text(item.output)
        low = folded(text)
        broken = {
            "too_short": len(text) < self.min_characters,
            "too_long": self.max_characters is not None and len(text) > self.max_characters,
            "required_missing": any(folded(word) not in low for word in self.required),
            "forbidden_found": any(folded(word) in low for word in self.forbidden),
        }
        return passed(not any(broken.values()), next((code for code, is_so in broken.items() if is_so), ""))
