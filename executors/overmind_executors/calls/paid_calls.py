"""
The journal of paid calls: what was asked, what came back, what it cost. It is the cache, the resume point and the
ledger of a job, and outlives `kill -9`.

```
sent ─▶ done            one row for every HTTP call
  └─ killed: the call may or may not have been paid for; it counts as a call and is made again
```

One thread writes. What several threads hand in while it writes goes into the next transaction together, so that
hundreds of calls a second need few syncs; whoever hands in waits until the disk has it.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from overmind_executors.calls.answers import Answer
from overmind_executors.calls.budget import Spent
from overmind_executors.contract import ExecutionFailed

# In place of a row's id, which is never empty: the call is for all rows with that request.
SHARED: Final = ""
_MOST_TOGETHER: Final = 256

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS call (
    request TEXT NOT NULL, row_id TEXT NOT NULL, repetition INTEGER NOT NULL, number INTEGER NOT NULL,
    life INTEGER NOT NULL, state TEXT NOT NULL, is_final INTEGER NOT NULL DEFAULT 0,
    reserved_at REAL NOT NULL, sent_at REAL, done_at REAL,
    kind TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, answer TEXT,
    PRIMARY KEY (request, row_id, repetition, number)
) WITHOUT ROWID
"""
_SENT: Final = """
INSERT INTO call (request, row_id, repetition, number, life, state, reserved_at, sent_at)
VALUES (?, ?, ?, ?, ?, 'sent', ?, ?)
"""
_DONE: Final = """
UPDATE call SET state = 'done', done_at = ?, is_final = ?, kind = ?, prompt_tokens = ?, completion_tokens = ?,
cost_usd = ?, answer = ? WHERE request = ? AND row_id = ? AND repetition = ? AND number = ?
"""
_KEEP: Final = """
INSERT INTO call (request, row_id, repetition, number, life, state, is_final, reserved_at, done_at, kind, answer)
VALUES (?, ?, ?, ?, ?, 'done', 1, ?, ?, ?, ?)
"""
_EARLIER: Final = """
SELECT number, is_final, answer FROM call WHERE request = ? AND row_id = ? AND repetition = ? ORDER BY number
"""
_SPENT: Final = """
SELECT count(sent_at), coalesce(sum(prompt_tokens), 0) + coalesce(sum(completion_tokens), 0),
coalesce(sum(cost_usd), 0.0) FROM call
"""
# Lives in which no call was made do not show up, so a mere replay changes no figure.
_LIVES: Final = """
SELECT life, max(coalesce(done_at, sent_at)) - min(sent_at), sum(is_final)
FROM call WHERE sent_at IS NOT NULL GROUP BY life ORDER BY life
"""


@dataclass(frozen=True)
class CallKey:
    """What is asked: the SHA-256 of the request's canonical body, for which row, which time."""

    request: str
    row_id: str
    repetition: int

    def columns(self) -> tuple[str, str, int]:
        """As the database has it."""
        return self.request, self.row_id, self.repetition


@dataclass(frozen=True)
class Earlier:
    """
    What the journal knows of a call already.

    Attributes:
        answer: of the last call that ended, None when none did.
        is_final: whether that answer stands, so that it is never asked again.
        number: of the last call begun, 0 for none.
    """

    answer: Answer | None = None
    is_final: bool = False
    number: int = 0


@dataclass(frozen=True)
class Lives:
    """`seconds` of calling, summed over the processes at work on the job; rows answered before the last one."""

    seconds: float
    resumed_rows: int


class PaidCalls:
    """
    The journal in one file. Safe from any thread; every method raises ExecutionFailed when the disk does not take
    it or the file is not readable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inbox: queue.SimpleQueue[tuple[str, Sequence[Any], Future[None]] | None] = queue.SimpleQueue()
        self._reading = threading.Lock()
        self._reader = self._open()
        (lives,) = self._reader.execute("SELECT coalesce(max(life), 0) FROM call").fetchone()
        self._life = lives + 1
        self._writer = threading.Thread(target=self._write, name="paid-calls", daemon=True)
        self._writer.start()

    def __enter__(self) -> PaidCalls:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def earlier(self, key: CallKey) -> Earlier:
        """What an earlier life of the job has left of this call, or this one: a row may ask the same twice."""
        with self._reading:
            found = self._reader.execute(_EARLIER, key.columns()).fetchall()
        if not found:
            return Earlier()
        done = [(is_final, text) for _, is_final, text in found if text is not None]
        answer = Answer.from_json(done[-1][1]) if done else None
        return Earlier(answer, bool(done and done[-1][0]), found[-1][0])

    def sent(self, key: CallKey, number: int) -> None:
        """The call is about to be made; on disk when this returns."""
        self._hand_in(_SENT, (*key.columns(), number, self._life, *[time.time()] * 2)).result()

    def done(self, key: CallKey, number: int, answer: Answer, *, is_final: bool) -> None:
        """The call has ended with *answer*; on disk when this returns."""
        facts = (
            answer.kind.value,
            answer.prompt_tokens,
            answer.completion_tokens,
            answer.cost_usd,
            answer.to_json(),
        )
        self._hand_in(_DONE, (time.time(), is_final, *facts, *key.columns(), number)).result()

    def keep(self, key: CallKey, number: int, answer: Answer) -> None:
        """*answer* is known without a call; it stands from now on, and costs nothing."""
        self._hand_in(
            _KEEP, (*key.columns(), number, self._life, *[time.time()] * 2, answer.kind.value, answer.to_json())
        ).result()

    def spent(self) -> Spent:
        """What all calls so far have used."""
        with self._reading:
            calls, tokens, usd = self._reader.execute(_SPENT).fetchone()
        return Spent(calls, tokens, usd, self.lives().seconds)

    def lives(self) -> Lives:
        """How long was called, over all lives of the job."""
        with self._reading:
            found = self._reader.execute(_LIVES).fetchall()
        return Lives(sum(max(seconds, 0.0) for _, seconds, _ in found), sum(rows for _, _, rows in found[:-1]))

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        self._inbox.put(None)
        self._writer.join()
        with self._reading:
            self._reader.close()

    def _open(self) -> sqlite3.Connection:
        try:
            made = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = FULL")
            made.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise ExecutionFailed(f"the journal of paid calls cannot be opened: {error}") from error
        return made

    def _hand_in(self, statement: str, values: Sequence[Any]) -> Future[None]:
        written: Future[None] = Future()
        self._inbox.put((statement, values, written))
        return written

    def _write(self) -> None:
        database = self._open()
        entry = self._inbox.get()
        while entry is not None:
            together = [entry]
            while len(together) < _MOST_TOGETHER and not self._inbox.empty():
                if (entry := self._inbox.get()) is None:
                    break
                together.append(entry)
            self._commit(database, together)
            entry = entry and self._inbox.get()
        database.close()

    def _commit(
        self, database: sqlite3.Connection, together: list[tuple[str, Sequence[Any], Future[None]]]
    ) -> None:
        try:
            database.execute("BEGIN IMMEDIATE")
            for statement, values, _ in together:
                database.execute(statement, values)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            failed = ExecutionFailed(f"the journal of paid calls cannot be written: {error}")
            for _, _, written in together:
                written.set_exception(failed)
        else:
            for _, _, written in together:
                written.set_result(None)
