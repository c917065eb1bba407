"""How near an output is in meaning to what is expected: the cosine of the vectors that a model makes of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import mul
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from overmind_executors.scoring.evaluator import Evaluator, expected_of, field_of
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Score, abstained, failed, scored
from overmind_executors.scoring.texts import as_text

Vectors = Callable[[str], Sequence[float] | Score]
"""The vector of a text, not all zero; or the score that stands where there is none."""


class EmbeddingCosine(Evaluator):
    """
    The cosine of output and expected text, 0 where it is negative. What it means depends on the model.

    Attributes:
        model: the name that the host gave to a model for embeddings.
    """

    kind: Literal["embedding_cosine"] = "embedding_cosine"
    model: Annotated[str, Field(min_length=1, max_length=255)]
    field: str | None = None
    is_graded: ClassVar[bool] = True
    _vectors: Vectors | None = PrivateAttr(None)

    def over(self, vectors: Vectors) -> Self:
        """The same, which finds vectors in *vectors*; safe from any thread if that is."""
        mine = self.model_copy()
        mine._vectors = vectors
        return mine

    def texts(self, item: Item) -> tuple[str, str]:
        """
        Output and expected text, which its score needs the vectors of.

        Raises:
            NoField: there is no such field, or nothing is expected.
        """
        return as_text(field_of(item, self.field)), as_text(expected_of(item, self.field))

    def score(self, item: Item) -> Score:
        if self._vectors is None:
            return failed("no_vectors")
        texts = self.texts(item)
        if not all(map(str.strip, texts)):
            return abstained("no_text")
        said, wanted = map(self._vectors, texts)
        if isinstance(said, Score):
            return said
        if isinstance(wanted, Score):
            return wanted
        if len(said) != len(wanted):
            return failed("unequal_vectors")
        return scored(round(max(0.0, cosine(said, wanted)), 6))


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """
    Of the angle between two vectors, in [-1, 1] but for rounding.

    Args:
        left, right: shape (n,), in single precision and neither all zero, so that no product overflows.
    """
    return math.fsum(map(mul, left, right)) / (math.hypot(*left) * math.hypot(*right))
