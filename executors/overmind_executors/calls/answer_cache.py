"""
What judges have answered on this host, for its later jobs: a question that was answered lately is not paid for
again.

Found by content alone: the address of the model, the whole request, and which of the votes on it this is. A cache
that cannot be read or written is none; no job fails for it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.contract import AnswersKept

_FILE: Final = "judge_answers.sqlite"
_DAY_S: Final = 86_400
# Some hundreds of MB at the usual length of a judge's answer.
_MOST_ANSWERS: Final = 200_000
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, kept_at REAL NOT NULL, answer TEXT NOT NULL)"
)
_SURPLUS: Final = """
DELETE FROM kept WHERE kept_at < ? OR rowid IN (SELECT rowid FROM kept ORDER BY kept_at DESC LIMIT -1 OFFSET ?)
"""
_KEEP: Final = "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)"
_FIND: Final = "SELECT answer FROM kept WHERE key = ? AND kept_at >= ?"


class AnswerCache:
    """Safe from any thread, and from other jobs' processes. Used as a context manager."""

    def __init__(self, kept: AnswersKept) -> None:
        self._max_age_s = kept.days * _DAY_S
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with suppress(sqlite3.Error, OSError):
            self._database = _open(kept.folder)
            self._database.execute(_SURPLUS, (time.time() - self._max_age_s, _MOST_ANSWERS))

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            self._database.close()

    def find(self, address: str, request: str, vote: int) -> Answer | None:
        """The answer to *request*, a digest, of the model at *address*; it costs nothing and was no call."""
        if self._database is None:
            return None
        values = (_key(address, request, vote), time.time() - self._max_age_s)
        try:
            with self._lock:
                found = self._database.execute(_FIND, values).fetchone()
            answer = None if found is None else Answer.from_json(found[0])
        except (sqlite3.Error, ValueError, KeyError, TypeError):
            return None
        return answer and _free(answer)

    def keep(self, address: str, request: str, vote: int, answer: Answer) -> None:
        """Remember *answer*, if it is a whole one."""
        if self._database is None or answer.kind is not Kind.OK:
            return
        values = (_key(address, request, vote), time.time(), answer.to_json())
        with self._lock, suppress(sqlite3.Error):
            self._database.execute(_KEEP, values)


def _free(answer: Answer) -> Answer:
    return replace(
        answer, prompt_tokens=0, completion_tokens=0, cost_usd=0.0, latency_ms=0.0, attempts=0, refusals=0
    )


def _open(folder: Path) -> sqlite3.Connection:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _FILE
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # what a power failure takes is asked again
    database.execute(_SCHEMA)
    return database


def _key(address: str, request: str, vote: int) -> bytes:
    return hashlib.sha256(f"{address}\n{request}\n{vote}".encode()).digest()
