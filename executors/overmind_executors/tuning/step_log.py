"""
What a search did, step by step, on disk: a search that is run again must take the same steps.

The answers themselves are in the journal of paid calls. A step that differs would pay for other calls than those
that were paid for; then the job stops and says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from overmind_executors import strict_json
from overmind_executors.contract import ExecutionFailed
from overmind_executors.tuning.sealed import REPLAY_MISMATCH

_MANNER: Final = "a step of the search is not the one that it was before the job was interrupted"


class StepLog:
    """The steps in one file, a line each. Used by one thread."""

    def __init__(self, path: Path) -> None:
        whole, _, torn = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
        self._known = whole.decode().splitlines()
        if torn:  # cut off while it was written: nothing was done after it
            path.write_bytes(whole + b"\n" if whole else b"")
        self._at = 0
        self._file = path.open("ab")

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._file.close()

    @property
    def replayed(self) -> int:
        """How many steps an earlier life had taken."""
        return len(self._known)

    def step(self, kind: str, *facts: object) -> None:
        """
        The search is about to do this.

        Raises:
            ExecutionFailed: an earlier life of the job did something else here.
        """
        line = f"{kind} {hashlib.sha256(strict_json.canonical([str(fact) for fact in facts])).hexdigest()}"
        if (known := self._next()) is None:
            self._append(line)
        elif known != line:
            raise ExecutionFailed(f"step {self._at} ({kind}): {_MANNER}", reason=REPLAY_MISMATCH)

    def decide(self, name: str, fresh: Callable[[], bool]) -> bool:
        """The answer to a question that may have another one now, such as whether there is money left."""
        if (known := self._next()) is None:
            answer = fresh()
            self._append(f"{name} {answer}")
            return answer
        if known not in (f"{name} True", f"{name} False"):
            raise ExecutionFailed(f"step {self._at} ({name}): {_MANNER}", reason=REPLAY_MISMATCH)
        return known.endswith("True")

    def _next(self) -> str | None:
        self._at += 1
        return self._known[self._at - 1] if self._at <= len(self._known) else None

    def _append(self, line: str) -> None:
        self._file.write(f"{line}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())
