"""The journal of paid calls: what it remembers, and what it says was spent."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.budget import Limits, Purse, Spent
from overmind_executors.calls.paid_calls import CallKey, Earlier, PaidCalls
from overmind_executors.contract import ExecutionFailed

KEY = CallKey("f" * 64, "row-1", 0)
GOOD = Answer(Kind.OK, status=200, output="hi", prompt_tokens=3, completion_tokens=2, cost_usd=0.5)
BAD = Answer(Kind.PROVIDER_ERROR, status=500, message="down")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "paid_calls.sqlite"


def _call(calls: PaidCalls, key: CallKey, number: int, answer: Answer | None, *, is_final: bool = True) -> None:
    calls.sent(key, number)
    if answer is not None:
        calls.done(key, number, answer, is_final=is_final)


def test_a_final_answer_is_remembered(path: Path) -> None:
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, BAD, is_final=False)
        _call(calls, KEY, 2, GOOD)

    with PaidCalls(path) as calls:
        assert Earlier(GOOD, is_final=True, number=2) == calls.earlier(KEY)


def test_a_call_whose_answer_never_came_is_not_an_answer(path: Path) -> None:
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, BAD, is_final=False)
        _call(calls, KEY, 2, None)

    with PaidCalls(path) as calls:
        assert Earlier(BAD, is_final=False, number=2) == calls.earlier(KEY)


@pytest.mark.parametrize(
    "other", [CallKey("e" * 64, "row-1", 0), CallKey("f" * 64, "row-2", 0), CallKey("f" * 64, "row-1", 1)]
)
def test_another_request_row_or_repetition_is_another_call(path: Path, other: CallKey) -> None:
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, GOOD)

    with PaidCalls(path) as calls:
        assert Earlier() == calls.earlier(other)


def test_what_is_done_is_on_disk_when_the_call_returns(path: Path) -> None:
    """Read by another connection while the journal is open: what a `kill -9` at this moment would leave."""
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, GOOD)
        reader = sqlite3.connect(path)
        found = reader.execute("SELECT state, is_final, kind, prompt_tokens, cost_usd FROM call").fetchall()
        reader.close()

    assert [("done", 1, "ok", 3, 0.5)] == found


def test_a_call_counts_once_it_is_sent_and_costs_once_it_is_done(path: Path) -> None:
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, GOOD)
        _call(calls, CallKey("f" * 64, "row-2", 0), 1, None)

        spent = calls.spent()

    assert (2, 5, 0.5) == (spent.calls, spent.tokens, spent.usd)


def test_rows_answered_before_the_last_life_are_resumed_rows(path: Path) -> None:
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, GOOD)
    with PaidCalls(path) as calls:
        _call(calls, CallKey("f" * 64, "row-2", 0), 1, GOOD)
        before = calls.lives()
    with PaidCalls(path) as calls:
        replayed = calls.lives()

    assert 1 == before.resumed_rows
    assert before == replayed, "a life without calls changes nothing"


def test_many_threads_write_at_once(path: Path) -> None:
    with PaidCalls(path) as calls, ThreadPoolExecutor(16) as pool:
        keys = [CallKey("f" * 64, f"row-{n}", 0) for n in range(300)]
        list(pool.map(lambda key: _call(calls, key, 1, GOOD), keys))
        spent = calls.spent()

    assert (300, 1500) == (spent.calls, spent.tokens)


def test_a_journal_that_is_no_database_fails_the_job(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)

    with pytest.raises(ExecutionFailed, match="cannot be opened"):
        PaidCalls(path)


def test_a_call_that_cannot_be_noted_is_not_made(path: Path) -> None:
    with PaidCalls(path) as calls:
        _call(calls, KEY, 1, GOOD)

        with pytest.raises(ExecutionFailed, match="cannot be written"):
            calls.sent(KEY, 1)


@pytest.mark.parametrize(
    ("limits", "calls"),
    [
        (Limits(), 20),
        (Limits(max_calls=7), 7),
        (Limits(max_tokens=50), 5),
        (Limits(max_usd=0.3), 3),
        (Limits(max_seconds=1e-9), 0),
    ],
)
def test_a_purse_gives_calls_until_the_first_limit(limits: Limits, calls: int) -> None:
    """Each call here costs 10 tokens and 10 cents."""
    purse = Purse(limits, Spent())
    made = 0
    while made < 20 and purse.take_call():
        purse.pay(tokens=10, usd=0.1)
        made += 1

    assert calls == made


def test_a_purse_goes_on_where_an_earlier_life_ended() -> None:
    assert not Purse(Limits(max_calls=7), Spent(calls=7)).take_call()
    assert not Purse(Limits(max_seconds=60), Spent(seconds=61)).take_call()
    assert Purse(Limits(max_seconds=60), Spent(seconds=59)).take_call()
