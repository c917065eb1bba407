"""
The same warning or error is said once a minute, with how often it came: a loop at a wall must not fill a disk.

The first is said at once. Those of the minute after it are held back, and the last of them is said when the minute
is over, with `times`: how many there were since the line before, that one included. Who counts events hears all.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

EVERY_S: Final = 60.0
# So many different errors are told apart at a time; what comes beyond is said as it comes.
MOST_KINDS: Final = 500

# What a person asked for, or did, is answered each time.
ANSWERS: Final = frozenset(
    {"agent.stacks", "config.refused", "config.not_reloaded", "control.failed", "control.refused"}
)
# Two lines that differ in these alone tell of one error. Besides, all measures: `wait_s`, `left_bytes`.
_VARIES: Final = frozenset({"trace_id", "span_id", "exc_info", "lines", "spans"})
_MEASURES: Final = ("_s", "_bytes")
_IN_WORDS: Final = frozenset({"error", "message", "why", "hint"})
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|\d+(?:\.\d+)?")
_WORDS_CHARS: Final = 300

Kind = bytes
"""A digest: what a line says may be long, and is not kept for that."""


@dataclass
class _Seen:
    """One kind of error: since when nothing of it was said, the last that was held back, and how many."""

    said_at_s: float
    held: logging.LogRecord | None = None
    times: int = 0


class Repeats:
    """
    Decides which records are said. Not safe to share: a handler calls it under its lock.

    Args:
        now_s: a clock that never goes back.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._seen: dict[Kind, _Seen] = {}

    def said_of(self, record: logging.LogRecord) -> Iterator[logging.LogRecord]:
        """What may be said now that *record* is there: what has waited for its minute, then *record*."""
        kind = kind_of(record)
        yield from self.due(but=kind)
        if kind is None:
            yield record
            return
        now_s, seen = self._now_s(), self._seen.get(kind)
        if seen is None:
            if len(self._seen) < MOST_KINDS:
                self._seen[kind] = _Seen(now_s)
            yield record
            return
        seen.times += 1
        if now_s - seen.said_at_s < EVERY_S:
            seen.held = _without_traceback(record)
            return
        self._seen[kind] = _Seen(now_s)
        yield _with_times(record, seen.times)

    def due(self, *, but: Kind | None = None, is_end: bool = False) -> Iterator[logging.LogRecord]:
        """
        What was held back and may be said now; kinds of which nothing came for a minute are forgotten.

        Args:
            but: not of this kind.
            is_end: all that is held back, since nothing will be said after it.
        """
        now_s = self._now_s()
        over = [k for k, s in self._seen.items() if k != but and (is_end or now_s - s.said_at_s >= EVERY_S)]
        for kind in over:
            seen = self._seen.pop(kind)
            if seen.held is not None:
                self._seen[kind] = _Seen(now_s)
                yield _with_times(seen.held, seen.times)


def kind_of(record: logging.LogRecord) -> Kind | None:
    """What makes two records the same error; None for one that is always said."""
    if record.levelno < logging.WARNING:
        return None
    if not isinstance(record.msg, Mapping):
        return _digest(record.levelno, record.name, str(record.msg), _class_of(record.exc_info))
    event = record.msg
    if event.get("event") in ANSWERS:
        return None
    named = ((key, value) for key, value in event.items() if key not in _VARIES and not key.endswith(_MEASURES))
    said = sorted((key, _told(value) if key in _IN_WORDS else repr(value)) for key, value in named)
    return _digest(record.levelno, *said, _class_of(event.get("exc_info")))


def _digest(*told: object) -> Kind:
    return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).digest()


def _told(words: object) -> str:
    """*words* without the numbers in them: a port, an id, a count of milliseconds."""
    return _NUMBER.sub("#", str(words)[:_WORDS_CHARS])


def _class_of(exc_info: object) -> str | None:
    if isinstance(exc_info, BaseException):
        return type(exc_info).__qualname__
    found = exc_info if isinstance(exc_info, tuple) else sys.exc_info() if exc_info else (None,)
    return getattr(found[0], "__qualname__", None)


def _with_times(record: logging.LogRecord, times: int) -> logging.LogRecord:
    if times == 1:
        return record
    said = copy.copy(record)
    if isinstance(record.msg, Mapping):
        said.msg = {**record.msg, "times": times}
    else:
        said.msg, said.args = f"{record.getMessage()} ({times} times)", None
    return said


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    """*record* to be kept: the first of its kind had the traceback, and frames are not held for a minute."""
    kept = copy.copy(record)
    kept.exc_info = None
    if isinstance(record.msg, Mapping):
        kept.msg = {key: value for key, value in record.msg.items() if key != "exc_info"}
    return kept
