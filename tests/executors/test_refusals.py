"""What a provider says when it takes no more, in the spellings that providers use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from overmind_executors.calls.refusals import Told, is_about_money, retry_after_s, told
from overmind_executors.calls.send_limits import Signal

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

RETRY_AFTER = [
    ({}, None),
    ({"Retry-After": "0"}, 0.0),
    ({"Retry-After": "7"}, 7.0),
    ({"Retry-After": " 2.5 "}, 2.5),
    ({"Retry-After": "1000000000000"}, 60.0),
    ({"Retry-After": "9" * 500}, 60.0),
    ({"Retry-After": "-5"}, None),
    ({"Retry-After": "abc"}, None),
    ({"Retry-After": ""}, None),
    ({"Retry-After": "."}, None),
    ({"Retry-After": "NaN"}, None),
    ({"Retry-After": "inf"}, None),
    ({"Retry-After": "1e9"}, None),
    ({"Retry-After": "٣"}, None),
    ({"Retry-After": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
    ({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
    ({"Retry-After": "Thu, 01 Jan 2099 12:00:30 GMT"}, 60.0),
    ({"Retry-After": "Thu, 99 Jan 2026 12:00:30 GMT"}, None),
    ({"retry-after-ms": "1500", "Retry-After": "7"}, 1.5),
    ({"retry-after-ms": "soon", "Retry-After": "7"}, 7.0),
]


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTER)
def test_what_a_server_asks_for_is_read_and_kept_within_bounds(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert seconds == retry_after_s(headers, NOW)


LEFT = "x-ratelimit-remaining-requests"
RESET = "x-ratelimit-reset-requests"
REFUSALS = [
    ({}, "too many", Told(Signal.REFUSED, None)),
    ({"Retry-After": "3"}, "too many", Told(Signal.REFUSED, 3.0)),
    ({LEFT: "0", RESET: "1.5s"}, "", Told(Signal.REFUSED_RATE, 1.5)),
    ({LEFT: "0", RESET: "20ms"}, "", Told(Signal.REFUSED_RATE, 0.02)),
    ({LEFT: "0", RESET: "6m0s"}, "", Told(Signal.REFUSED_RATE, 60.0)),
    ({LEFT: "0", RESET: "1s", "Retry-After": "4"}, "", Told(Signal.REFUSED_RATE, 4.0)),
    ({LEFT: "0", RESET: "soon"}, "", Told(Signal.REFUSED_RATE, None)),
    ({LEFT: "0", RESET: "9" * 5000}, "", Told(Signal.REFUSED_RATE, None)),
    ({LEFT: "0"}, "", Told(Signal.REFUSED_RATE, None)),
    ({LEFT: "12", RESET: "1s"}, "", Told(Signal.REFUSED, None)),
    (
        {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-01-01T12:00:30Z"},
        "",
        Told(Signal.REFUSED_RATE, 30.0),
    ),
    ({}, "Too many concurrent requests", Told(Signal.REFUSED_CONCURRENCY, None)),
]


@pytest.mark.parametrize(("headers", "message", "expected"), REFUSALS)
def test_a_refusal_says_which_limit_it_is_about(headers: dict[str, str], message: str, expected: Told) -> None:
    assert expected == told(headers, message, NOW)


MONEY: list[tuple[dict[str, Any], bool]] = [
    ({"code": "insufficient_quota"}, True),
    ({"type": "insufficient_quota", "code": None}, True),
    ({"type": "billing_not_active"}, True),
    ({"code": "rate_limit_exceeded"}, False),
    ({"code": ["insufficient_quota"]}, False),
    ({}, False),
]


@pytest.mark.parametrize(("error", "expected"), MONEY)
def test_an_account_that_is_used_up_is_no_rate_limit(error: dict[str, Any], expected: bool) -> None:
    assert expected == is_about_money(error)
