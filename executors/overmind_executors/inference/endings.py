"""How the lines of a running job have ended so far: whether to go on, and what to say when nothing came."""

from __future__ import annotations

from collections import Counter

from overmind_executors.inference.output import Done


class Endings:
    """
    Attributes:
        kinds: lines by outcome and HTTP status, None where no answer came.
        failed_in_a_row: lines since the last one with an output.
    """

    def __init__(self) -> None:
        self.kinds: Counter[tuple[str, int | None]] = Counter()
        self.total = self.ok = self.failed_in_a_row = 0
        self._asked = self._provider_failed = 0

    def add(self, done: Done) -> None:
        """Count one line."""
        self.total += 1
        self.ok += done.is_ok
        self.kinds[done.outcome, done.answer.status if done.answer else None] += 1
        if done.answer is not None:
            self.failed_in_a_row = 0 if done.is_ok else self.failed_in_a_row + 1
            self._asked += 1
            self._provider_failed += done.answer.kind.is_worth_retrying

    @property
    def is_provider_down(self) -> bool:
        """Whether rows were asked about and each met a failure of the provider's, none one of its own."""
        return 0 < self._asked == self._provider_failed
