"""What a provider says when it takes no more: which limit that is about, and when to come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from overmind_executors.calls.send_limits import Signal

MAX_WAIT_S: Final = 60.0
# What providers call an account that cannot pay. No waiting helps; a person has to.
_QUOTA: Final = frozenset(
    {
        "insufficient_quota",
        "insufficient_funds",
        "insufficient_balance",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "quota_exceeded",
    }
)
# What is left of a limit, and when it is whole again: OpenAI's names, and Anthropic's.
_LEFT_AND_RESET: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)
_DURATION: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
_MOST_TEXT: Final = 64


@dataclass(frozen=True)
class Told:
    """
    Attributes:
        limit: which limit a refusal is about, as far as it says.
        wait_s: how long to wait, None when it does not say.
    """

    limit: Signal
    wait_s: float | None


def is_about_money(error: Mapping[str, Any]) -> bool:
    """Whether the `error` object of a refusal says that the account is used up, which is no rate limit."""
    return not _QUOTA.isdisjoint(word for word in (error.get("code"), error.get("type")) if isinstance(word, str))


def told(headers: Mapping[str, str], message: str, now: datetime | None = None) -> Told:
    """What a refusal with these *headers* and this *message* says."""
    at = now or datetime.now(UTC)
    asked_s = retry_after_s(headers, at)
    for left, reset in _LEFT_AND_RESET:
        if headers.get(left, "").strip() == "0":
            reset_s = _until(headers.get(reset, ""), at)
            return Told(Signal.REFUSED_RATE, reset_s if asked_s is None else asked_s)
    about_concurrency = "concurren" in message.lower()
    return Told(Signal.REFUSED_CONCURRENCY if about_concurrency else Signal.REFUSED, asked_s)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """
    What a server asks for in `retry-after-ms` or `Retry-After`, as seconds or as a date, within [0, 60].

    Returns:
        None when it asks for nothing, or for something that is not a time.
    """
    millis, text = headers.get("retry-after-ms", ""), headers.get("Retry-After", "").strip()
    if millis.isascii() and millis.isdigit() and len(millis) < 16:
        return min(int(millis) / 1000, MAX_WAIT_S)
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), MAX_WAIT_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _seconds_to(at, now or datetime.now(UTC))


def _until(text: str, now: datetime) -> float | None:
    """Seconds until a reset that is written `6m0s`, `1.5s`, `20ms` or as a date of RFC 3339."""
    text = text.strip()[:_MOST_TEXT]
    found = _DURATION.fullmatch(text)
    if text and found:
        hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
        return min(hours * 3600 + minutes * 60 + seconds + millis / 1000, MAX_WAIT_S)
    try:
        return _seconds_to(datetime.fromisoformat(text), now)
    except (ValueError, OverflowError):
        return None


def _seconds_to(at: datetime, now: datetime) -> float:
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), MAX_WAIT_S)
