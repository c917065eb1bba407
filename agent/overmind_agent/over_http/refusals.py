"""What an answer that is no success means: the one place that tells refusals apart."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from overmind_agent.errors import AuthError, ClaimLost, ControlPlaneError, RejectedError, TransientError
from overmind_executors import strict_json

MIB: Final = 1024 * 1024
ANY_2XX: Final = frozenset(range(200, 300))
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_RESET: Final = re.compile(r"\b(?:reset|t)=([0-9]{1,12})")
# A number of seconds that is a time of day rather than a wait.
_UNIX_TIME_S: Final = 1e9
_NOT_OURS: Final = frozenset({404, 409, 410, 422, 423})


@dataclass(frozen=True)
class Verb:
    """
    What holds for every call of one name.

    Attributes:
        total_s: the whole exchange, from the first byte sent to the last one read.
        is_on_job: whether a refusal means that the job is not ours.
        accepts: the statuses that mean success; all other 2xx are someone else answering.
        max_bytes: of the answer.
        may_be_empty: whether a 204 will do.
    """

    name: str
    total_s: float
    is_on_job: bool = False
    accepts: frozenset[int] = frozenset({200, 201})
    max_bytes: int = 4 * MIB
    may_be_empty: bool = False


def refusal(verb: Verb, status: int, headers: Mapping[str, str], body: bytes) -> ControlPlaneError:
    """The error for an answer that is not a success."""
    facts = _json_or_none(body)
    said = _detail(facts)
    text = f"{verb.name}: {status}{': ' + said if said else ''}"
    if status in _BUSY:
        wait_s = read_retry_after(headers.get("Retry-After"))
        if wait_s is None:
            wait_s = read_rate_limit_reset(headers)
        return TransientError(text, verb=verb.name, http_status=status, retry_after_s=wait_s)
    kind = _refusal_kind(verb, status)
    if kind is not None:
        return kind(text, verb=verb.name, http_status=status, facts=facts if isinstance(facts, dict) else None)
    # 1xx, 3xx, another 2xx or 5xx: not the control plane speaking, or not in a state to
    return TransientError(text, verb=verb.name, http_status=status)


def _refusal_kind(verb: Verb, status: int) -> type[RejectedError] | None:
    if status in (401, 403):
        return AuthError
    if verb.is_on_job and status in _NOT_OURS:
        return ClaimLost
    return RejectedError if 400 <= status < 500 else None


def blob_refusal(verb: Verb, status: int, headers: Mapping[str, str], body: bytes) -> ControlPlaneError:
    """As `refusal`; but a temporary URL that is no longer accepted says nothing about our token."""
    error = refusal(verb, status, headers, body)
    if isinstance(error, AuthError):
        return TransientError(str(error), verb=verb.name, http_status=status)
    return error


def read_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds, from seconds or a date; None for what is neither, or is negative, or no number."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date = read_date(value)
        if date is None:
            return None
        seconds = max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def read_rate_limit_reset(headers: Mapping[str, str], *, now_s: float | None = None) -> float | None:
    """
    Seconds until a rate limit ends, from `RateLimit-Reset`, `RateLimit` or `X-RateLimit-Reset`; None without them.

    Source:
        draft-ietf-httpapi-ratelimit-headers; X-RateLimit-Reset as it is in use, in seconds or as a Unix time.
    """
    told = _RESET.search(headers.get("RateLimit", ""))
    value = headers.get("RateLimit-Reset") or headers.get("X-RateLimit-Reset") or (told[1] if told else None)
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    if seconds >= _UNIX_TIME_S:
        seconds = max(0.0, seconds - (time.time() if now_s is None else now_s))
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def read_date(value: str) -> datetime | None:
    """An aware time; None for what is none, or does not say in which zone."""
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):  # the last for a zone beyond all zones
        return None
    return date if date.tzinfo is not None else None


def read_moment(value: str) -> datetime | None:
    """A time in ISO 8601 that says in which zone, as UTC; None for what is none."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _json_or_none(body: bytes) -> Any:
    try:
        return strict_json.loads(body)
    except strict_json.NotJson:
        return None


def _detail(found: Any) -> str:
    """What an error body says, in any of the known shapes; at most 300 characters, on one line."""
    if isinstance(found, dict):
        inner = found.get("error")
        inner = inner.get("message") if isinstance(inner, dict) else inner
        found = found.get("detail") or found.get("message") or inner or _fields(found)
    if isinstance(found, list):
        found = "; ".join(str(line.get("msg", "")) if isinstance(line, dict) else str(line) for line in found)
    text = found if isinstance(found, str) else ""
    return "".join(letter if letter.isprintable() else " " for letter in text[:300])


def _fields(found: Mapping[str, Any]) -> str:
    """A map of fields to what is wrong with each, in words."""
    told = {name: says for name, says in found.items() if isinstance(says, list)}
    return "; ".join(f"{name}: {' '.join(str(text) for text in says)}" for name, says in told.items())
