"""
The vectors that a job's evaluators compare: each distinct text once, many in a call.

```
rows ─▶ distinct texts ─▶ batches ─▶ PaidModel ─▶ a file of vectors, a line for each call
```

The batches are the same in every life of a job, so what the journal of paid calls has is not asked again.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.embeddings import unpacked
from overmind_executors.calls.forecast import FEWEST, MESSAGE_TOKENS, TYPICAL, Calls, Range
from overmind_executors.calls.paid_model import NotAsked, PaidModel
from overmind_executors.contract import ModelEndpoint
from overmind_executors.rows.rows import BrokenRow, Row
from overmind_executors.scoring.embedding import EmbeddingCosine
from overmind_executors.scoring.evaluator import NoField
from overmind_executors.scoring.items import item_of
from overmind_executors.scoring.scores import Score, failed, skipped

# With 4,096 numbers each, so many vectors are some 3 MB of JSON; an answer may have 8 MiB.
MOST_TEXTS: Final = 32
# Below the 300,000 tokens that OpenAI takes in a request, whatever the texts are.
MOST_BYTES: Final = 256 << 10
# A provider that refuses a batch so may mean one of its texts, such as one too long: each is asked by itself then.
_ABOUT_A_TEXT: Final = frozenset({400, 413, 422})
# A file under the host's data_roots may change between the look at its texts and the scoring of its rows.
_NEVER_SEEN: Final = failed("not_embedded")


def batches(ones: Sequence[EmbeddingCosine], rows: Iterable[Row | BrokenRow]) -> Iterator[list[str]]:
    """The distinct texts of *rows* that *ones* compare, as many together as one call takes."""
    batch: list[str] = []
    size = 0
    for text in _distinct(ones, rows):
        more = len(text.encode())
        if batch and (len(batch) == MOST_TEXTS or size + more > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += more
    if batch:
        yield batch


def _distinct(ones: Sequence[EmbeddingCosine], rows: Iterable[Row | BrokenRow]) -> Iterator[str]:
    seen: set[bytes] = set()
    for row in rows:
        if isinstance(row, BrokenRow) or (item := item_of(row)).absence:
            continue
        for one in ones:
            try:
                texts = one.texts(item)
            except (NoField, RecursionError):
                continue
            if not all(map(str.strip, texts)):
                continue
            for text in texts:
                if (digest := _digest(text)) not in seen:
                    seen.add(digest)
                    yield text


@dataclass
class Needs:
    """What a model will be asked: batches, their texts, letters in all, the most bytes of a batch and of a text."""

    calls: int = 0
    texts: int = 0
    letters: int = 0
    longest_batch: int = 0
    longest_text: int = 0

    @classmethod
    def of(cls, found: Iterable[Sequence[str]]) -> Needs:
        """Those of the batches *found*."""
        needs = cls()
        for batch in found:
            sizes = [len(text.encode()) for text in batch]
            needs.calls += 1
            needs.texts += len(batch)
            needs.letters += sum(map(len, batch))
            needs.longest_batch = max(needs.longest_batch, sum(sizes))
            needs.longest_text = max(needs.longest_text, *sizes)
        return needs

    def as_calls(self, model: ModelEndpoint, *, may_be_known: bool) -> list[Calls]:
        """For the forecast: the batches, and the texts of those that may be refused."""
        if not self.calls:
            return []
        each = self.letters / self.calls
        asked = Range(each // FEWEST, each / TYPICAL, self.longest_batch + MOST_TEXTS * MESSAGE_TOKENS)
        alone = Range(0, 0, self.longest_text + MESSAGE_TOKENS)
        number, nothing = Range(0 if may_be_known else self.calls, self.calls, self.calls), Range(0, 0, 0)
        return [
            Calls(model, number, asked, nothing),
            Calls(model, Range(0, 0, self.texts), alone, nothing),
        ]


@dataclass(frozen=True)
class Batch:
    """What came of a batch: of each text its vector, as `embeddings.packed` makes it, or a score; a line a call."""

    found: Mapping[str, str | Score]
    lines: Sequence[Mapping[str, Any]]


class Embedder:
    """
    The vectors of one model's texts. Asked and read from any thread, filled from one.

    Args:
        folder: where a file of vectors may lie; it has no name and ends with the process.
    """

    def __init__(self, model: PaidModel, folder: Path, *, timeout_s: float) -> None:
        self.model = model
        self._timeout_s = timeout_s
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by close
        self._end = 0
        self._places: dict[bytes, tuple[int, int] | Score] = {}
        self.failed_in_a_row = 0

    def close(self) -> None:
        """Let go of the vectors."""
        self._file.close()

    def ask(self, texts: Sequence[str]) -> Batch:
        """What the model says of *texts*; when they are refused together, of each by itself."""
        body = {"input": list(texts), "encoding_format": "float"}
        answer = self.model.ask(body, row_id="", repetition=0, timeout_s=self._timeout_s, is_shared=True)
        lines = [_line(self.model.endpoint.name, len(texts), answer)]
        if isinstance(answer, NotAsked):
            return Batch(dict.fromkeys(texts, skipped(answer.reason)), lines)
        if answer.kind is Kind.OK:
            said = zip(texts, answer.output, strict=True)
            return Batch({text: vector or failed("no_vector") for text, vector in said}, lines)
        if len(texts) == 1 or answer.status not in _ABOUT_A_TEXT:
            return Batch(dict.fromkeys(texts, failed(answer.kind.value)), lines)
        alone = [self.ask([text]) for text in texts]
        found = {text: vector for one in alone for text, vector in one.found.items()}
        return Batch(found, [*lines, *(line for one in alone for line in one.lines)])

    def take(self, batch: Batch) -> None:
        """Keep what was found."""
        for text, said in batch.found.items():
            self._places[_digest(text)] = said if isinstance(said, Score) else self._written(said)
            self.failed_in_a_row = self.failed_in_a_row + 1 if isinstance(said, Score) else 0
        self._file.flush()

    def vector(self, text: str) -> Sequence[float] | Score:
        """That of *text*, or the score that stands for it."""
        place = self._places.get(_digest(text), _NEVER_SEEN)
        if isinstance(place, Score):
            return place
        return unpacked(os.pread(self._file.fileno(), place[1], place[0]))

    def _written(self, vector: str) -> tuple[int, int]:
        content = base64.b64decode(vector)
        place = (self._end, self._file.write(content))
        self._end += len(content)
        return place


def _line(name: str, texts: int, answer: Answer | NotAsked) -> dict[str, Any]:
    if isinstance(answer, NotAsked):
        return {"model": name, "texts": texts, "vectors": 0, "outcome": answer.reason, "calls": 0, "cached": 0,
                "prompt_tokens": 0, "cost_usd": 0.0, "message": ""}  # fmt: skip
    return {
        "model": name,
        "texts": texts,
        "vectors": len(answer.output) - answer.output.count(None) if answer.kind is Kind.OK else 0,
        "outcome": answer.kind.value,
        "calls": answer.attempts,
        "cached": int(answer.attempts == 0),
        "prompt_tokens": answer.prompt_tokens or 0,
        # What was refused was not read; of any other call without a price nobody knows what it cost.
        "cost_usd": 0.0 if answer.status in _ABOUT_A_TEXT else answer.cost_usd,
        "message": answer.message,
    }


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
