"""
Which texts of a long list are nearly one: they share four fifths of their groups of three words.

```
text ─▶ groups of three words, hashed ─▶ the 256 smallest: a sketch, from which a Jaccard index is known
                                      └▶ 64 minima in 16 bands: texts with a band in common are compared
```

Two texts at the limit of 0.8 have no band in common, and are missed, once in 4,500 times. All of it is in a
database that SQLite spills to disk and forgets.

Source:
    A. Broder, "On the resemblance and containment of documents", 1997; P. Li, A. Owen, C.-H. Zhang, "One
    Permutation Hashing", NIPS 2012, its empty bins filled as by A. Shrivastava and P. Li, ICML 2014.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zlib
from array import array
from collections.abc import Iterator
from typing import Final

from overmind_executors.scoring.texts import folded

SIMILAR: Final = 0.8
_IN_A_GROUP: Final = 3
_SKETCH: Final = 256
_BINS, _BANDS = 64, 16
_PER_BAND: Final = _BINS // _BANDS
# So many of those that share a band are compared, and so much of a long text.
_MOST_COMPARED: Final = 8
_MOST_LETTERS: Final = 20_000
_WORD: Final = re.compile(r"\w+")
_SCHEMA: Final = """
PRAGMA cache_size = -32768;
CREATE TABLE texts (digest BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE sketches (number INTEGER PRIMARY KEY, sketch BLOB);
CREATE TABLE bands (band INTEGER, number INTEGER, PRIMARY KEY (band, number)) WITHOUT ROWID;
"""


class NearTexts:
    """
    Used as a context manager, from one thread: `add` each text, then ask for `group`.

    Attributes:
        compared: different texts that were compared, *most* at most; of those after them only equal ones are found.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self.compared = 0

    def __enter__(self) -> NearTexts:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")
        self._leader = array("q")
        return self

    def __exit__(self, *_raised: object) -> None:
        self._database.close()

    def add(self, text: str) -> bool:
        """One more text, numbered from 0; whether a text before it is nearly, and not wholly, the same."""
        number = len(self._leader)
        self._leader.append(number)
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        found = self._database.execute("SELECT number FROM texts WHERE digest = ?", (digest,)).fetchone()
        if found is not None:
            self._join(number, found[0])
            return False
        self._database.execute("INSERT INTO texts VALUES (?, ?)", (digest, number))
        if self.compared >= self._most:
            return False
        self.compared += 1
        return self._compare(number, text)

    def _compare(self, number: int, text: str) -> bool:
        hashes = _hashes(text)
        sketch = array("I", sorted(hashes)[:_SKETCH])
        bands = list(_bands_of(hashes))
        near = [other for other in self._candidates(bands) if _resemblance(sketch, self._sketch(other)) >= SIMILAR]
        for other in near:
            self._join(number, other)
        self._database.execute("INSERT INTO sketches VALUES (?, ?)", (number, sketch.tobytes()))
        self._database.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", ((band, number) for band in bands))
        return bool(near)

    def group(self, number: int) -> int:
        """The first text of those that *number* is nearly the same as, directly or by way of others."""
        leader = self._leader
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self.group(one), self.group(other)))
        self._leader[second] = first

    def _candidates(self, bands: list[int]) -> dict[int, None]:
        found: dict[int, None] = {}
        query = "SELECT number FROM bands WHERE band = ? LIMIT ?"
        for band in bands:
            found.update((number, None) for (number,) in self._database.execute(query, (band, _MOST_COMPARED)))
        return found

    def _sketch(self, number: int) -> array[int]:
        (raw,) = self._database.execute("SELECT sketch FROM sketches WHERE number = ?", (number,)).fetchone()
        return array("I", raw)


def _hashes(text: str) -> set[int]:
    """Of the groups of three words; a shorter text is one group. 32 bits each, the same on every machine."""
    words = _WORD.findall(folded(text[:_MOST_LETTERS]))
    groups = [" ".join(words[at : at + _IN_A_GROUP]) for at in range(max(1, len(words) - _IN_A_GROUP + 1))]
    # The sum's bits depend on each other; the multiplication mixes them.
    return {
        (zlib.crc32((group or text).encode(errors="surrogatepass")) * 0x9E3779B1) & 0xFFFFFFFF for group in groups
    }


def _bands_of(hashes: set[int]) -> Iterator[int]:
    minima: list[int | None] = [None] * _BINS
    for value in hashes:
        least = minima[value % _BINS]
        if least is None or value < least:
            minima[value % _BINS] = value
    filled = _filled(minima)
    for band in range(_BANDS):
        part = array("Q", filled[band * _PER_BAND : (band + 1) * _PER_BAND])
        digest = hashlib.blake2b(part.tobytes(), digest_size=8, salt=band.to_bytes(2)).digest()
        yield int.from_bytes(digest, signed=True)


def _filled(minima: list[int | None]) -> list[int]:
    """An empty bin has the value of the next one that is not, and how far away it is."""
    filled = [0] * _BINS
    value = steps = 0
    for at in (*reversed(range(_BINS)), *reversed(range(_BINS))):  # twice, for the last bins look to the first ones
        least = minima[at]
        value, steps = (least, 0) if least is not None else (value, steps + 1)
        filled[at] = value + (steps << 32)
    return filled


def _resemblance(one: array[int], other: array[int]) -> float:
    """The Jaccard index: exact for texts of up to 256 groups, else an estimate with a deviation of 0.025."""
    left, right = set(one), set(other)
    least = sorted(left | right)[:_SKETCH]
    return sum(value in left and value in right for value in least) / len(least)
