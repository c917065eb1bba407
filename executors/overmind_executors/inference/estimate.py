"""What a job will need, told before its first call: calls, tokens and money, each low, typical and at most."""

from __future__ import annotations

import math

from overmind_executors import strict_json
from overmind_executors.calls.forecast import (
    FEWEST,
    MESSAGE_TOKENS,
    TYPICAL,
    TYPICAL_ANSWER_TOKENS,
    Estimate,
    Range,
)
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_model import digest_of
from overmind_executors.calls.prices import Prices
from overmind_executors.inference.output_schema import REPAIR
from overmind_executors.inference.parameters import InferenceParameters
from overmind_executors.inference.requests import MissingField, NotMessages, body_of, is_shareable
from overmind_executors.rows.rows import Row


class Estimator:
    """Looks at each row once, and keeps sums; with equal rows shared, a digest of each request too."""

    def __init__(self, task: InferenceParameters, prices: Prices | None, policy: RetryPolicy) -> None:
        self._task = task
        self._prices = prices
        self._policy = policy
        self._seen: set[bytes] = set()
        self._requests = self._characters = self._bytes = self._messages = 0
        self._answers, self._most_answers = 0, 0
        self._is_bounded = True

    def look(self, row: Row) -> None:
        """Add what *row* will need; nothing when it cannot be asked about."""
        try:
            body = body_of(row, self._task.target)
        except (MissingField, NotMessages):
            return
        if self._task.share_equal_rows and is_shareable(body):
            digest = digest_of(body)
            if digest in self._seen:
                return
            self._seen.add(digest)
        text = strict_json.dumps([body.get("messages"), body.get("tools")])
        self._requests += 1
        self._characters += len(text)
        self._bytes += len(text.encode())
        self._messages += len(body["messages"]) if isinstance(body.get("messages"), list) else 1
        most = body.get("max_tokens", body.get("max_completion_tokens"))
        self._is_bounded = self._is_bounded and isinstance(most, int)
        self._most_answers += most if isinstance(most, int) else 0
        self._answers += min(most, TYPICAL_ANSWER_TOKENS) if isinstance(most, int) else TYPICAL_ANSWER_TOKENS

    def estimate(self) -> Estimate:
        """The sums, for all repetitions."""
        times = self._task.repetitions
        rows = self._requests * times
        # A retry takes one from the budget of retries, a good answer gives half a one back.
        needed = 2 * rows if self._task.may_repair else rows
        most_calls = needed + self._policy.budget + needed // 2
        again = most_calls / rows if rows else 1.0
        asked = Range(
            times * (self._characters // FEWEST),
            times * (self._characters // TYPICAL),
            self._most_asked(again * times),
        )
        most = math.ceil(again * times * self._most_answers) if self._is_bounded else None
        said = Range(0, times * self._answers, most)
        return Estimate(
            Range(rows, rows, most_calls),
            Range(asked.low, asked.typical + said.typical, _sum(asked.ceiling, said.ceiling)),
            self._money(asked, said),
        )

    def _most_asked(self, times: float) -> int | None:
        """Tokens; who is asked once more is shown the schema and what it said, of which nobody knows the length."""
        shown = 0
        if self._task.may_repair:
            if not self._is_bounded:
                return None
            schema = len(strict_json.dumps(self._task.output_schema).encode())
            shown = self._most_answers + self._requests * (schema + len(REPAIR) + 3 * MESSAGE_TOKENS)
        return math.ceil(times * (self._bytes + MESSAGE_TOKENS * self._messages + shown))

    def _money(self, asked: Range, said: Range) -> Range | None:
        if self._prices is None:
            return None
        dear, dearer = (price / 1_000_000 for price in self._prices)
        most = _sum(_times(asked.ceiling, dear), _times(said.ceiling, dearer))
        return Range(
            round(asked.low * dear, 6),
            round(asked.typical * dear + said.typical * dearer, 6),
            None if most is None else round(most, 6),
        )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _sum(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right
