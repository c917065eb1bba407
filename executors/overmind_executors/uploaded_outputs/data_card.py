"""
What the rows of a finished job say of themselves: every figure made from the three files, and from nothing else.

The executor uses it once the files are written, and `overmind-recount` uses it again on what was uploaded.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.figures import percentile
from overmind_executors.uploaded_outputs.closer_look import CloserLook
from overmind_executors.uploaded_outputs.constant_columns import ConstantColumns
from overmind_executors.uploaded_outputs.languages import UNKNOWN, language_of
from overmind_executors.uploaded_outputs.lines import MISSING_FILE, OUTPUTS, REJECTED

ALPHA: Final = 0.05
POWER: Final = 0.8
_PLACEHOLDER: Final = "-"
_PERCENTILES: Final = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
# The spread of a row's difference between two versions: graded and much alike, graded, pass or fail.
SPREADS: Final = (0.1, 0.3, 0.5, 0.7071)
_LETTERS_LOOKED_AT: Final = 40
_MOST_SCRIPTS: Final = 8
_LATIN: Final = "latin"


def smallest_gain(rows: int, spread: float, *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """
    The smallest true gain in a mean score that a paired comparison on *rows* rows shows with a chance of *power*.

    `(z(1 - alpha) + z(power)) * spread / sqrt(rows)`, one-sided: the normal approximation, which is up to 5 % too
    small for 30 rows and right for hundreds. `statistics.power` has the exact one, with scipy.

    Args:
        spread: the standard deviation of a row's difference between the two sides, on the scale of the score.

    Returns:
        On that scale too; None for fewer than two rows.

    Source:
        J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition, 1988, chapter 2.
    """
    if rows < 2:
        return None
    z = NormalDist().inv_cdf
    return (z(1 - alpha) + z(power)) * spread / math.sqrt(rows)


def data_card(
    folder: Path,
    *,
    seen: Callable[[], None] = lambda: None,
    mark: Callable[[str, Mapping[str, Any]], None] = lambda _name, _line: None,
) -> dict[str, Any]:
    """
    The figures of the files in *folder*.

    Args:
        seen: called for each line; may raise to end it.
        mark: given each line that the files of closer_look have, with the file's name.
    """
    rejected: Counter[str] = Counter()
    for line in _lines(folder / REJECTED, seen):
        rejected[line["code"]] += 1
    missing = sum(1 for _ in _lines(folder / MISSING_FILE, seen))
    with _Texts() as texts, CloserLook() as look:
        sums = _Sums(texts, look)
        for line in _lines(folder / OUTPUTS, seen):
            sums.add(line)
        for name, marked in look.marks(_lines(folder / OUTPUTS, seen)):
            mark(name, marked)
        return sums.card(rejected, missing) | texts.card() | look.card()


class _Sums:
    """What is counted of the accepted outputs."""

    def __init__(self, texts: _Texts, look: CloserLook) -> None:
        self._texts = texts
        self._look = look
        self._lengths = array("q")
        self._latencies = array("d")
        self._scripts: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._constant = ConstantColumns()
        self._bound_by: str | None = None
        self._accepted = self._failed = self._empty = self._with_input = self._with_expected = 0

    def add(self, line: dict[str, Any]) -> None:
        """Count one line of `outputs.jsonl`."""
        self._accepted += 1
        self._bound_by = line["bound_by"]
        self._failed += not line["success"]
        self._with_input += line["input"] is not None
        self._with_expected += line["expected_output"] is not None
        if line["latency_ms"] is not None:
            self._latencies.append(line["latency_ms"])
        self._constant.add(line)
        usable = self._usable(line)
        self._look.add(line, usable)
        if usable is not None:
            self._lengths.append(len(usable))
            script = _script_of(usable)
            self._scripts[script] += 1
            self._languages[language_of(usable) if script == _LATIN else UNKNOWN] += 1
            self._texts.add(line, usable)

    def _usable(self, line: dict[str, Any]) -> str | None:
        """Its output as text, None when there is nothing to score."""
        output = line["output"]
        text = output if isinstance(output, str) else strict_json.dumps(output)
        if not line["success"]:
            return None
        if output in (None, {}, []) or text.strip() in ("", _PLACEHOLDER):
            self._empty += 1
            return None
        return text

    def card(self, rejected: Counter[str], missing: int) -> dict[str, Any]:
        """All of it."""
        usable = len(self._lengths)
        total = self._accepted + missing if self._bound_by else 0
        return {
            "rows": {
                "total": self._accepted + rejected.total(),
                "accepted": self._accepted,
                "rejected": rejected.total(),
                "rejected_by_code": dict(sorted(rejected.items())),
            },
            "outputs": {"usable": usable, "empty": self._empty, "failed": self._failed},
            "with_input": self._with_input,
            "with_expected_output": self._with_expected,
            "bound_by": self._bound_by or "none",
            "datapoints": {
                "total": total,
                "covered": usable if total else 0,
                "missing": missing,
                "coverage_rate": round(usable / total, 6) if total else None,
            },
            "length": _profile(self._lengths),
            "length_histogram": _histogram(self._lengths),
            "latency_ms": _profile(self._latencies),
            "scripts": dict(self._scripts.most_common(_MOST_SCRIPTS)),
            "languages": dict(self._languages.most_common()),
            "constant_columns": self._constant.names(),
            "smallest_gain": [_gain_row(count, usable) for count in (usable, usable // 2, usable // 5)],
        }


# What people, or others before us, said of an output.
_LABELS: Final = ("labels", "score")
_TWO_LABELS: Final = """
SELECT count(*) FROM (SELECT 1 FROM texts GROUP BY output, input HAVING count(DISTINCT label) > 1)
"""


class _Texts:
    """Digests of outputs and inputs, in a database that SQLite spills to disk and forgets."""

    def __enter__(self) -> _Texts:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE texts (output BLOB, input BLOB, expected BLOB, label BLOB)")
        self._database.execute("BEGIN")
        return self

    def __exit__(self, *_raised: object) -> None:
        self._database.close()

    def add(self, line: dict[str, Any], text: str) -> None:
        """Note one usable output."""
        label = {name: line[name] for name in _LABELS if line.get(name) is not None}
        values = (_digest(text), _digest(line["input"]), _digest(line["expected_output"]), _digest(label or None))
        self._database.execute("INSERT INTO texts VALUES (?, ?, ?, ?)", values)

    def card(self) -> dict[str, Any]:
        """What stands there more than once."""
        distinct, most = self._one("SELECT count(*), max(n) FROM (SELECT count(*) n FROM texts GROUP BY output)")
        inputs = "SELECT count(*) FROM (SELECT 1 FROM texts WHERE input NOT NULL GROUP BY input HAVING {})"
        return {
            "duplicates": {
                "distinct_outputs": distinct,
                "most_frequent_output": most or 0,
                "repeated_inputs": self._one(inputs.format("count(*) > 1"))[0],
                "inputs_with_two_expected_outputs": self._one(inputs.format("count(DISTINCT expected) > 1"))[0],
                "outputs_with_two_labels": self._one(_TWO_LABELS)[0],
            }
        }

    def _one(self, query: str) -> Any:
        return self._database.execute(query).fetchone()


def _lines(path: Path, seen: Callable[[], None]) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for raw in file:
            seen()
            yield strict_json.loads(raw.rstrip(b"\n"))


def _digest(value: Any) -> bytes | None:
    return None if value is None else hashlib.sha256(strict_json.canonical(value)).digest()[:16]


def _profile(values: array[Any]) -> dict[str, Any] | None:
    """Smallest, percentiles, largest and mean; None for no values."""
    if not values:
        return None
    ascending = sorted(values)
    ranks = {name: percentile(ascending, share) for name, share in _PERCENTILES.items()}
    mean = math.fsum(ascending) / len(ascending)
    return {"min": ascending[0], **ranks, "max": ascending[-1], "mean": round(mean, 3)}


def _histogram(lengths: array[int]) -> list[dict[str, int]]:
    """How many outputs have so many letters, from each power of two up to the next."""
    counts = Counter(length.bit_length() for length in lengths)
    first, last = (min(counts), max(counts)) if counts else (0, -1)
    return [{"from": 1 << (n - 1), "to": (1 << n) - 1, "outputs": counts[n]} for n in range(first, last + 1)]


def _gain_row(count: int, usable: int) -> dict[str, Any]:
    gains = {f"{spread:g}": smallest_gain(count, spread) for spread in SPREADS}
    share = round(count / usable, 2) if usable else None
    return {
        "rows": count,
        "share": share,
        "by_spread": {k: None if v is None else round(v, 4) for k, v in gains.items()},
    }


def _script_of(text: str) -> str:
    """The writing that most of the first letters of *text* are in: `latin`, `cyrillic`, `cjk`, …, `none`."""
    found = Counter(map(_script, filter(str.isalpha, text[:_LETTERS_LOOKED_AT])))
    return min(found, key=lambda name: (-found[name], name)) if found else "none"


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The first word of the letter's Unicode name, which is its script for all but a few."""
    return unicodedata.name(letter, "unknown").partition(" ")[0].lower()
