"""
Masking of secrets in whatever is about to be shown, stored or sent.

Two things are masked: secrets that we know, in every form of theirs (`secret_forms`), and what looks like a key.
Texts get a mask that can be read. Streams of bytes, such as a job's log, get one of the same length, so that an
offset means the same before and after, however the stream is cut into pieces.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from overmind_config.secret_forms import forms, is_maskable

MASK: Final = "[redacted]"
MAX_DEPTH: Final = 32
# The longest thing that is taken for a key.
MOST_KEY_LETTERS: Final = 4096

Span = tuple[int, int]

_SECRET_KEYS: Final = frozenset({"authorization", "api_key", "x-api-key", "password", "token"})
# What looks like a key is found by letters that little else has: many times faster than by a pattern.
# Group 0 of each pattern is what is masked.
_KINDS: Final = {
    b"ovr": re.compile(rb"\bovr[a-z]?_[A-Za-z0-9_-]{4,%d}" % MOST_KEY_LETTERS),
    b"sk-": re.compile(rb"\bsk-[A-Za-z0-9_-]{4,%d}" % MOST_KEY_LETTERS),
}
_SCHEMES: Final = (b"bearer ", b"api-key ", b"basic ")
_VALUE: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{4,%d}" % MOST_KEY_LETTERS)
# The schemes end alike once their last letters are taken for one of two kinds, and few other words do: one search
# finds them all, in any case.
_FOLDED: Final = bytes.maketrans(b"rksycRKSYC" + b"eiEI", b"\1" * 10 + b"\2" * 4)
_END_OF_SCHEME: Final = b"\1\2\1 "
_USER: Final = re.compile(rb"[^\s'\"]+")
_WORD_BYTES: Final = 8
# A form that is at least so long has a whole aligned word in it, wherever it stands.
_LONG_BYTES: Final = 2 * _WORD_BYTES - 1
_MOST_NAMES: Final = 500
_MOST_NAME: Final = 64
_LINE_BREAKS: Final = re.compile(rb"[\r\n]")


class _Known:
    """
    The forms of the known secrets, and how to find them fast.

    Long forms are looked for by their words of eight bytes, in a set: what is read of a text is every so-many-th
    word, of which each form has one, and one step costs the same however many secrets there are.
    """

    def __init__(self, known: frozenset[bytes]) -> None:
        self.all = known
        # Names of fields in which nothing is to be masked: the same few, with every line of a log.
        self.plain_names: set[str] = set()
        self.longest = max(map(len, known), default=0)
        self._short = [form for form in known if len(form) < _LONG_BYTES]
        long = [form for form in known if len(form) >= _LONG_BYTES]
        self._stride = min(((len(form) - _WORD_BYTES + 1) // _WORD_BYTES for form in long), default=0)
        starts = ((form, at) for form in long for at in range(len(form) - _WORD_BYTES + 1))
        self._words = {int.from_bytes(form[at : at + _WORD_BYTES], sys.byteorder) for form, at in starts}
        longest_first = sorted(map(re.escape, known), key=len, reverse=True)
        # Behind a look-ahead, so that a secret that begins inside another one is found as well.
        self._pattern = re.compile(b"(?=(" + b"|".join(longest_first) + b"))")

    def spans(self, data: bytes) -> Iterator[Span]:
        if self._may_be_in(data):
            yield from (found.span(1) for found in self._pattern.finditer(data))

    def _may_be_in(self, data: bytes) -> bool:
        if any(form in data for form in self._short):
            return True
        if not self._words:
            return False
        whole = len(data) - len(data) % _WORD_BYTES
        words = memoryview(data)[:whole].cast("Q")[:: self._stride]
        return not self._words.isdisjoint(words)


class Redactor:
    """
    Replaces secrets, and whatever looks like a key, by a mask. Safe to use from any thread.

    Attributes:
        refused: how many secrets were not taken, since they are too short or too common a word to be masked.
        masked_count: in how many places something was masked; where two pieces of a stream overlap, twice.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known = _Known(frozenset())
        self.refused = 0
        self.masked_count = 0
        self._counting = threading.Lock()
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Mask these too, from now on: a key that was rotated. Of a secret with several lines, each line."""
        lines = {line for secret in secrets for line in secret.splitlines() if line}
        taken = {line for line in lines if is_maskable(line)}
        self.refused += len(lines - taken)
        self._known = _Known(self._known.all.union(*map(forms, taken)))

    # ------------------------------------------------------------------------------------------ bytes

    @property
    def reach(self) -> int:
        """How many bytes before and behind a place may decide whether it is masked."""
        return max(MOST_KEY_LETTERS + 16, self._known.longest)

    def masked(self, data: bytes) -> bytes:
        """*data*, as long as it was, with an asterisk for each byte of a secret."""
        spans = self._spans(data)
        if not spans:
            return data
        self._count(len(spans))
        result = bytearray(data)
        for start, end in spans:
            result[start:end] = b"*" * (end - start)
        return bytes(result)

    def _count(self, places: int) -> None:
        with self._counting:
            self.masked_count += places

    def settled(self, data: bytes) -> int:
        """How many bytes of *data* stay as they are, whatever comes behind them. No secret has two lines."""
        far = max(0, len(data) - self.reach)
        last = max((found.end() for found in _LINE_BREAKS.finditer(data, far)), default=0)
        return max(far, last)

    def _spans(self, data: bytes) -> list[Span]:
        """Where *data* is to be masked, in order, none touching another one."""
        found = [*self._known.spans(data), *_key_like(data)]
        if not found:
            return []
        found.sort()
        spans = [found[0]]
        for start, end in found[1:]:
            if start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            else:
                spans.append((start, end))
        return spans

    # ------------------------------------------------------------------------------------------ text

    def text(self, text: str) -> str:
        """*text* with every secret masked."""
        data = text.encode("utf-8", "surrogatepass")
        spans = self._spans(data)
        if not spans:
            return text
        self._count(len(spans))
        edges = [0, *(edge for span in spans for edge in span), len(data)]
        kept = [data[start:end] for start, end in list(pairwise(edges))[::2]]
        return MASK.encode().join(kept).decode("utf-8", "surrogatepass")

    def value(self, value: Any, depth: int = 0) -> Any:
        """
        A copy of *value* with every secret masked, at any depth, in keys too.

        What is not plain data is replaced by its `repr`, since that is what would be shown of it.
        """
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return self.text(value)
        if depth >= MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return {self._name(str(key)): self._entry(key, item, depth) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, (bytes, bytearray)):
            return self.text(bytes(value).decode("utf-8", "backslashreplace"))
        return self.text(repr(value))

    def _name(self, name: str) -> str:
        known = self._known  # what is found now is true of these
        if name in known.plain_names:
            return name
        masked = self.text(name)
        if masked == name and len(name) <= _MOST_NAME and len(known.plain_names) < _MOST_NAMES:
            known.plain_names.add(name)
        return masked

    def _entry(self, key: Any, value: Any, depth: int) -> Any:
        is_secret = isinstance(key, str) and key.lower() in _SECRET_KEYS and isinstance(value, (str, bytes))
        return MASK if is_secret and value else self.value(value, depth + 1)


def _key_like(data: bytes) -> Iterator[Span]:
    for letters, pattern in _KINDS.items():
        at = data.find(letters)
        while at >= 0:
            found = pattern.match(data, at)
            if found is not None:
                yield found.span()
            at = data.find(letters, found.end() if found is not None else at + 1)
    yield from _behind_schemes(data)
    yield from _in_urls(data)


def _behind_schemes(data: bytes) -> Iterator[Span]:
    """What stands where a header has its credentials."""
    folded = data.translate(_FOLDED)
    end = 0
    while (at := folded.find(_END_OF_SCHEME, end)) >= 0:
        end = at + len(_END_OF_SCHEME)
        is_scheme = data[max(0, end - 8) : end].lower().endswith(_SCHEMES)
        if is_scheme and (found := _VALUE.match(data, end)) is not None:
            yield found.span()


def _in_urls(data: bytes) -> Iterator[Span]:
    """What stands between `://` and the next at sign, which is rarer than a URL."""
    start = 0
    while (at := data.find(b"@", start)) >= 0:
        begin = data.rfind(b"/", max(start, at - MOST_KEY_LETTERS - 1), at) + 1
        if data[max(start, begin - 3) : begin] == b"://" and _USER.fullmatch(data, begin, at):
            yield begin, at
        start = at + 1
