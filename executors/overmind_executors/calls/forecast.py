"""What a job of several models will need, told before its first call: calls, tokens and money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from overmind_executors import strict_json
from overmind_executors.calls.budget import Limits
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.prices import prices_of
from overmind_executors.contract import InvalidParameters, ModelEndpoint, Problem
from overmind_executors.figures import in_words

# Characters a token: few tokens for long common words, four in plain English, and no token is less than a byte.
FEWEST: Final = 10
TYPICAL: Final = 4
# What a provider adds to a message for its role and its borders.
MESSAGE_TOKENS: Final = 16
TYPICAL_ANSWER_TOKENS: Final = 256


@dataclass(frozen=True)
class Range:
    """`ceiling` is None when nothing bounds it."""

    low: float
    typical: float
    ceiling: float | None


@dataclass(frozen=True)
class Estimate:
    """
    What a job will need.

    Attributes:
        cost_usd: None when a model has no price.
    """

    calls: Range
    tokens: Range
    cost_usd: Range | None

    def as_json(self) -> dict[str, Any]:
        """For the summary."""
        return asdict(self)


@dataclass(frozen=True)
class Calls:
    """
    Calls of one kind to one model.

    Attributes:
        number: how many, retries apart; its ceiling is known.
        asked, said: tokens of one call, in and out.
    """

    model: ModelEndpoint
    number: Range
    asked: Range
    said: Range


def forecast(kinds: Sequence[Calls], policy: RetryPolicy) -> Estimate:
    """
    All of *kinds* together; the ceiling of the calls has room for the retries that *policy* allows.

    Those of tokens and money need none: what is tried again is what came without an answer, and so without usage.
    """
    most = [math.ceil((one.number.ceiling or 0) * _again(one.model, kinds, policy)) for one in kinds]
    tokens = [_times(one, _plus(one.asked, one.said)) for one in kinds]
    money = [_money(one) for one in kinds]
    return Estimate(
        Range(sum(one.number.low for one in kinds), round(sum(one.number.typical for one in kinds)), sum(most)),
        _total(tokens),
        None if None in money else _total([one for one in money if one is not None], digits=6),
    )


def of_answers(max_tokens: int | None) -> Range:
    """Tokens of an answer."""
    typical = TYPICAL_ANSWER_TOKENS if max_tokens is None else min(max_tokens, TYPICAL_ANSWER_TOKENS)
    return Range(0, typical, max_tokens)


def of_bodies(bodies: Iterable[Mapping[str, Any]]) -> Range:
    """Tokens that a call with one of *bodies* takes in: the shortest one, the mean, the longest."""
    lows, typical, most = [], [], []
    for body in bodies:
        text = strict_json.dumps([body.get("messages"), body.get("tools")])
        messages = len(body["messages"]) if isinstance(body.get("messages"), list) else 1
        lows.append(_said(body) // FEWEST)
        typical.append(len(text) / TYPICAL)
        most.append(len(text.encode()) + MESSAGE_TOKENS * messages)
    if not lows:
        return Range(0, 0, 0)
    return Range(min(lows), sum(typical) / len(typical), max(most))


def _said(body: Mapping[str, Any]) -> int:
    """Letters of its messages' texts, without what only holds them together: nobody has to count that."""
    given = body.get("messages")
    texts = [one.get("content") for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return sum(len(text) for text in texts if isinstance(text, str))


def refuse_beyond(limits: Limits, needs: Estimate, figure: Literal["low", "typical"], what: str) -> None:
    """
    Raises InvalidParameters, naming every limit that does not hold what is needed.

    Args:
        figure: which figure of *needs* counts.
        what: the words before it, such as `the job will need about`.
    """
    found = (
        ("max_calls", needs.calls, limits.max_calls),
        ("max_tokens", needs.tokens, limits.max_tokens),
        ("max_usd", needs.cost_usd, limits.max_usd),
    )
    problems = [
        Problem(f"budget.{name}", f"{what} {in_words(need)}, more than {in_words(most)}; nothing was called")
        for name, one, most in found
        if one is not None and most is not None and (need := getattr(one, figure)) > most
    ]
    if problems:
        raise InvalidParameters(*problems)


def within(limits: Limits, expected: Estimate) -> Limits:
    """
    *limits*, and where they say nothing of tokens and money the ceilings of *expected*: a job is not to take more
    than it said. Calls need none: the policy that their ceiling is made of bounds what is tried again.
    """
    ceilings = {"max_tokens": expected.tokens.ceiling, "max_usd": expected.cost_usd and expected.cost_usd.ceiling}
    own = limits.model_dump(exclude_none=True)
    return Limits.model_validate({**{name: most for name, most in ceilings.items() if most}, **own})


def _again(model: ModelEndpoint, kinds: Sequence[Calls], policy: RetryPolicy) -> float:
    """Calls for each that is needed: a retry takes one from the budget, a good answer gives half a one back."""
    needed = sum(one.number.ceiling or 0 for one in kinds if one.model is model)
    return (needed + policy.budget + needed // 2) / needed if needed else 1.0


def _money(one: Calls) -> Range | None:
    prices = prices_of(one.model)
    if prices is None:
        return None
    dear, dearer = (price / 1_000_000 for price in prices)
    return _times(one, _plus(_scaled(one.asked, dear), _scaled(one.said, dearer)))


def _times(one: Calls, each: Range) -> Range:
    most = one.number.ceiling or 0
    ceiling = 0.0 if not most else None if each.ceiling is None else most * each.ceiling
    return Range(one.number.low * each.low, one.number.typical * each.typical, ceiling)


def _scaled(one: Range, factor: float) -> Range:
    return Range(one.low * factor, one.typical * factor, None if one.ceiling is None else one.ceiling * factor)


def _plus(left: Range, right: Range) -> Range:
    is_open = left.ceiling is None or right.ceiling is None
    return Range(
        left.low + right.low,
        left.typical + right.typical,
        None if is_open else (left.ceiling or 0) + (right.ceiling or 0),
    )


def _total(parts: Sequence[Range], *, digits: int = 0) -> Range:
    total = Range(0, 0, 0)
    for part in parts:
        total = _plus(total, part)
    factor = 10**digits
    most = None if total.ceiling is None else math.ceil(total.ceiling * factor) / factor
    found = math.floor(total.low * factor) / factor, round(total.typical, digits), most
    if digits:
        return Range(*found)
    return Range(int(found[0]), int(found[1]), None if most is None else int(most))


def as_rows(estimate: Mapping[str, Any]) -> tuple[tuple[str, float | None, float | None, float | None], ...]:
    """The rows of a table: what, low, typical, at most."""
    names = {"calls": "model calls", "tokens": "tokens", "cost_usd": "US dollars"}
    known = {words: estimate[name] for name, words in names.items() if estimate[name] is not None}
    return tuple((words, one["low"], one["typical"], one["ceiling"]) for words, one in known.items())
