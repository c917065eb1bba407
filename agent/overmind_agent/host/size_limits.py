"""How large a job's input and its result may be on this host; the server cannot widen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from overmind_agent.errors import JobError
from overmind_agent.jobs import ResultFile

# Why a job fails, by what has too many bytes.
TOO_LARGE: Final = {"input": "input_too_large", "result": "result_too_large"}


@dataclass(frozen=True)
class SizeLimits:
    """In bytes; None is no limit. The result's is of all its files together."""

    max_input_bytes: int | None = None
    max_result_bytes: int | None = None

    def check_input(self, size_bytes: int | None) -> None:
        """
        Raises:
            JobError: `input_too_large`. None, a size that nobody said, is not.
        """
        _check("input", size_bytes or 0, self.max_input_bytes)

    def check_result(self, files: Sequence[ResultFile]) -> None:
        """
        Raises:
            JobError: `result_too_large`.
        """
        _check("result", sum(file.size_bytes for file in files), self.max_result_bytes)


def _check(what: str, size_bytes: int, most_bytes: int | None) -> None:
    if most_bytes is not None and size_bytes > most_bytes:
        raise JobError(
            f"the {what} has {size_bytes:,} bytes, more than policy.max_{what}_bytes of this host, {most_bytes:,}",
            reason=TOO_LARGE[what],
        )
