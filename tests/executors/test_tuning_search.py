"""What a search may name its best: constraints, gates, objectives, races, and what each change did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from overmind_executors.rows.rows import Row
from overmind_executors.tuning.changed_rows import changed_rows, changes_of, in_words
from overmind_executors.tuning.constraints import Code
from overmind_executors.tuning.gepa_search import gepa_search
from overmind_executors.tuning.guarding import CONSTRAINT_BROKEN, GATE_FAILED
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.merits import CandidateLimits, Merits
from overmind_executors.tuning.promotion import Decision
from overmind_executors.tuning.racing import Racing, blocks, is_lost
from overmind_executors.tuning.recounting import verdict_of
from overmind_executors.tuning.sealed import Registration
from overmind_executors.tuning.search import Ground, Plan, Search, best_of_n, random_rewrite
from overmind_executors.tuning.side_by_side import comparison_of
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.trials import Trial
from tuning_bench import SEED_TEXT, CoinBench, NumberedWriter

START = {"prompt": "as it was"}


def trials(
    *values: float | None, usd: float | None = 0.01, ms: float = 10.0, tokens: int | None = 20, shut: int = 0
) -> list[Trial]:
    """A row each; the first *shut* of them fail a gate."""
    return [
        Trial(f"r{n}", value, cost_usd=usd, latency_ms=ms, prompt_tokens=tokens, gate_failed=n < shut)
        for n, value in enumerate(values)
    ]


def ledger(limits: CandidateLimits | None = None, *objectives: Any) -> Ledger:
    """With the prompt as it was, right about two rows of four."""
    made = Ledger(lambda _one: None, limits or CandidateLimits(), objectives or ("quality", "cost", "length"))
    made.baseline(START, trials(1.0, 1.0, 0.0, 0.0, shut=1))
    return made


# ------------------------------------------------------------------------------------------ what may not win


@pytest.mark.parametrize(
    ("limits", "found", "message"),
    [
        ({"max_usd_per_request": 0.02}, {"usd": 0.03}, "a request costs 0.03 US dollars, more than 0.02"),
        (
            {"max_usd_per_request": 0.000001},
            {"usd": 0.00000239375},
            "a request costs 0.000002394 US dollars, more than 0.000001",
        ),
        ({"max_usd_per_request": 0.02}, {"usd": None}, "a request costs an unknown number of US dollars"),
        ({"max_p95_ms": 40}, {"ms": 41.0}, "the 95th percentile of latency is 41 ms, more than 40"),
        ({"max_prompt_tokens": 20}, {"tokens": 21}, "a request has 21 prompt tokens, more than 20"),
        ({"max_prompt_tokens": 20}, {"tokens": None}, "a request has an unknown number of prompt tokens"),
    ],
)
def test_a_candidate_that_breaks_a_limit_is_never_the_best(
    limits: dict[str, float], found: dict[str, Any], message: str
) -> None:
    kept = ledger(CandidateLimits(**limits))

    broken = kept.tried({"prompt": "right throughout"}, START, trials(1.0, 1.0, 1.0, 1.0, **found))

    assert (Code.DISCARD_CONSTRAINT, message) == (broken.code, broken.message)
    assert START == kept.best().texts


def test_a_limit_that_is_just_kept_is_kept() -> None:
    limits = CandidateLimits(max_usd_per_request=0.01, max_p95_ms=10, max_prompt_tokens=20)
    kept = ledger(limits)

    made = kept.tried({"prompt": "right"}, START, trials(1.0, 1.0, 1.0, 1.0))

    assert Code.KEEP_BETTER == made.code
    assert kept.best() == made


def test_a_candidate_that_fails_a_gate_more_often_is_never_the_best() -> None:
    kept = ledger()

    worse = kept.tried({"prompt": "loose"}, START, trials(1.0, 1.0, 1.0, 1.0, shut=2))
    same = kept.tried({"prompt": "as strict"}, START, trials(1.0, 1.0, 1.0, 0.0, shut=1))

    assert (Code.DISCARD_GATE, Code.KEEP_BETTER) == (worse.code, same.code)
    assert "fail a gate on 2 rows, those of the prompt on 1" in worse.message
    assert same == kept.best()


def test_to_fail_on_the_hard_rows_is_no_gain() -> None:
    """Where it has no score a candidate is worth what the prompt is: it gains nothing there, and loses nothing."""
    kept = ledger()

    given_up = kept.tried({"prompt": "gives up where it is hard"}, START, trials(1.0, 1.0, None, None, usd=0.02))
    unlucky = kept.tried({"prompt": "met a provider's bad moment"}, START, trials(None, 1.0, 1.0, 0.0, usd=0.02))

    assert (0.5, Code.DISCARD_WORSE) == (given_up.mean, given_up.code)
    assert (0.75, Code.KEEP_BETTER) == (unlucky.mean, unlucky.code)


def test_other_blanks_are_no_other_candidate() -> None:
    """To be tried again is to throw the dice again."""
    kept = ledger()

    assert kept.seen_before({"prompt": " as  it\nwas "})
    assert not kept.seen_before({"prompt": "as it is"})


# ------------------------------------------------------------------------------------------ objectives


def test_who_is_as_good_and_cheaper_or_shorter_is_kept_and_who_is_worse_is_not() -> None:
    kept = ledger()
    told = [
        kept.tried({"prompt": "as good, and cheaper"}, START, trials(1.0, 1.0, 0.0, 0.0, usd=0.005)),
        kept.tried({"prompt": "short"}, START, trials(1.0, 1.0, 0.0, 0.0)),
        kept.tried({"prompt": "x"}, START, trials(1.0, 0.0, 0.0, 0.0, usd=0.001)),
        kept.tried({"prompt": "as good, no cheaper, no shorter"}, START, trials(1.0, 1.0, 0.0, 0.0)),
    ]

    assert [Code.KEEP_PARETO, Code.KEEP_PARETO, Code.DISCARD_WORSE, Code.DISCARD_WORSE] == [
        one.code for one in told
    ]
    assert ["as good, and cheaper", "short"] == [one.texts["prompt"] for one in kept.frontier()]
    assert START == kept.best().texts, "only quality is a gain"


def test_in_quality_alone_nobody_is_kept_for_being_cheaper() -> None:
    kept = ledger(None, "quality")

    made = kept.tried({"prompt": "cheap"}, START, trials(1.0, 1.0, 0.0, 0.0, usd=0.005))

    assert Code.DISCARD_WORSE == made.code


def test_latency_counts_where_it_is_an_objective() -> None:
    found = [
        ledger(None, *objectives).tried(
            {"prompt": "as good, and faster"}, START, trials(1.0, 1.0, 0.0, 0.0, ms=5.0)
        )
        for objectives in (("quality", "latency"), ("quality", "length"))
    ]

    assert [Code.KEEP_PARETO, Code.DISCARD_WORSE] == [one.code for one in found]


def test_an_unknown_price_is_no_objective() -> None:
    kept = Ledger(lambda _one: None, objectives=("quality", "cost"))
    kept.baseline(START, trials(1.0, 0.0, usd=None))

    assert {"quality": 1.0} == kept.objectives_at({"prompt": "a"}, trials(1.0, 1.0, usd=0.1))


# ------------------------------------------------------------------------------------------ races


def _cases(number: int) -> list[Case]:
    return [Case(Row(n, n, f"r{n}", {}, f"r{n}", "x"), f"{n * 7 % number:03}") for n in range(number)]


def test_the_blocks_of_a_race_double_and_hold_every_row_once() -> None:
    cases = _cases(50)

    found = blocks(cases, Racing(first_rows=8))

    assert [8, 8, 16, 18] == [len(block) for block in found]
    assert list(range(50)) == sorted(place for block in found for place in block)
    assert [list(range(50))] != blocks(cases, None), "the order of a file may say something"


@pytest.mark.parametrize(
    ("values", "is_out"),
    [([0.0] * 8, True), ([1.0] * 8, False), ([None] * 8, False), ([0.0] * 2 + [1.0] * 6, False)],
)
def test_who_is_shown_to_be_worse_is_out(values: list[float | None], is_out: bool) -> None:
    assert is_out is is_lost(values, [1.0] * 8, Racing())


@pytest.mark.parametrize("search", [gepa_search, best_of_n, random_rewrite])
def test_a_hopeless_candidate_is_not_tried_on_all_rows_and_never_written_from(
    search: Search, tmp_path: Path
) -> None:
    bench = CoinBench(0, {f"r{n}": 0.9 for n in range(60)})
    cases = [Case(Row(n, n, f"r{n}", {}, f"r{n}", "x"), f"{n:03}") for n in range(60)]
    told = Ledger(lambda _one: None)
    with StepLog(tmp_path / "log") as log:
        ground = Ground(
            original=SEED_TEXT,
            train=[Case(Row(n, n, f"t{n}", {}, f"t{n}", "x"), f"t{n}") for n in range(4)],
            validation=cases,
            bench=_HardToLearn(bench),
            proposer=NumberedWriter(lambda _n: -0.9),
            ledger=told,
            log=log,
            plan=Plan(3, 1, 4, ("prompt",), 1),
            racing=Racing(),
        )
        told.baseline(SEED_TEXT, ground.trials([(SEED_TEXT, cases)])[0])

        search(ground)

    out = told.candidates[1:]
    assert {Code.DISCARD_SCREEN} == {one.code for one in out}
    assert {"shown to be worse than baseline on 10 of 60 validation rows"} == {one.message for one in out}
    assert {"baseline"} == {one.parent for one in out}
    assert 60 + 10 * len(out) == sum(not row.startswith("t") for _, row, _ in bench.done)


class _HardToLearn:
    """A bench on whose rows to learn from every candidate is better than the prompt: all pass the first screen."""

    def __init__(self, inner: CoinBench) -> None:
        self._inner = inner

    def trials(self, pieces: Sequence[Any]) -> list[Trial]:
        """See Bench."""
        learnt = [piece for piece in pieces if piece.case.row.id.startswith("t")]
        if learnt:
            return [Trial(piece.case.row.id, float(piece.texts != SEED_TEXT)) for piece in pieces]
        return self._inner.trials(pieces)

    def unpaid(self, pieces: Sequence[Any]) -> int:
        """See Bench."""
        return len(pieces)


# ------------------------------------------------------------------------------------------ the rows that decide


def _line(number: int, before: float, after: float | None, **of_after: Any) -> dict[str, Any]:
    entry = {
        "kind": "ok",
        "output": "x",
        "latency_ms": 10.0,
        "cost_usd": 0.01,
        "prompt_tokens": 20,
        "gate_failed": False,
    }
    return {
        "item_id": f"r{number}",
        "group": str(number),
        "expected": "x",
        "baseline": [{**entry, "value": before, "said": ["exact_match: 0.00"] if before < 1 else []}],
        "candidate": [{**entry, "value": after, "said": [], **of_after}],
    }


@pytest.mark.parametrize(
    ("of_after", "constraints", "code", "why"),
    [
        ({"gate_failed": True}, {}, GATE_FAILED, "its outputs fail a gate 20 times, those of the prompt 0 times"),
        ({}, {"max_usd_per_request": 0.009}, CONSTRAINT_BROKEN, "a request costs 0.01 US dollars, more than 0.009"),
        ({}, {"max_p95_ms": 9.0}, CONSTRAINT_BROKEN, "the 95th percentile of latency is 10 ms, more than 9"),
        ({}, {"max_prompt_tokens": 19.0}, CONSTRAINT_BROKEN, "a request has 20 prompt tokens, more than 19"),
    ],
)
def test_no_gain_buys_a_gate_or_a_limit_on_the_held_out_rows(
    of_after: dict[str, Any], constraints: dict[str, float], code: str, why: str
) -> None:
    lines = [_line(n, 0.0, 1.0, **of_after) for n in range(20)]
    registered = Registration(0.05, 0.0, 1, 20, 0.8, "before", "after", constraints)

    refused, promoted = (
        verdict_of(lines, registered),
        verdict_of([_line(n, 0.0, 1.0) for n in range(20)], Registration(0.05, 0.0, 1, 20, 0.8, "before", "after")),
    )

    assert (Decision.REFUSED, code, why) == (refused.decision, refused.code, refused.why)
    assert (Decision.PROMOTED, "") == (promoted.decision, promoted.why)


def test_the_rows_that_changed_come_with_what_was_said_of_them() -> None:
    lines = [
        _line(0, 0.0, 1.0),
        _line(1, 1.0, 0.0, said=["judge: 0.00 so"]),
        _line(2, 1.0, 1.0),
        _line(3, 1.0, 0.5),
    ]

    found = changed_rows(lines)

    assert [("r1", -1.0), ("r3", -0.5), ("r0", 1.0)] == [(one.row_id, one.difference) for one in found]
    assert ("", "judge: 0.00 so") == found[0].said


def test_both_sides_stand_side_by_side_in_score_money_and_latency() -> None:
    """Scores over the rows that both have one for; a share of nothing is no share."""
    lines = [
        _line(0, 0.0, 1.0, cost_usd=0.03, latency_ms=30.0),
        _line(1, 1.0, 1.0, cost_usd=0.03, latency_ms=10.0),
        _line(2, 1.0, None, kind="timeout", output=None, cost_usd=None),
    ]

    found = comparison_of(lines)

    assert {
        "spans_tested": 3,
        "spans_created": 2,
        "metrics": {
            "old_prompt": {"avg_score": 0.5, "span_count": 3, "total_cost": 0.03, "avg_latency_ms": 10.0},
            "new_prompt": {"avg_score": 1.0, "span_count": 2, "total_cost": 0.06, "avg_latency_ms": 20.0},
            "improvement": {
                "score_delta": 0.5, "score_delta_pct": 100.0, "cost_delta": 0.03, "cost_delta_pct": 100.0,
                "latency_delta_ms": 10.0, "latency_delta_pct": 100.0,
            },
        },
    } == found  # fmt: skip
    nothing = comparison_of([_line(0, 0.0, 1.0, cost_usd=None)])
    assert nothing is not None
    improvement = nothing["metrics"]["improvement"]
    assert (1.0, None, None) == tuple(
        improvement[name] for name in ("score_delta", "score_delta_pct", "cost_delta")
    )
    assert comparison_of([]) is None


# ------------------------------------------------------------------------------------------ what each change did


def test_each_step_to_the_best_says_what_it_changed_fixed_and_broke() -> None:
    start = {"system": "Be right.", "user": "{input}"}
    kept = Ledger(lambda _one: None)
    kept.baseline(start, trials(1.0, 0.0, 0.0))
    first = {**start, "system": "Be right. Think."}
    second = {"system": "Be right. Think.", "user": "It is: {input}"}
    kept.tried(first, start, trials(0.0, 1.0, 1.0))
    kept.tried({**start, "system": "Something else."}, start, trials(1.0, 0.0, 0.0))
    kept.tried(second, first, trials(1.0, 1.0, 1.0))

    steps = changes_of(kept.lineage(kept.best()), ["a", "b", "c"])

    assert [(("system",), ("b", "c"), ("a",)), (("user",), ("a",), ())] == [
        (one.components, one.fixed, one.broke) for one in steps
    ]
    told = in_words(start, second, steps)
    assert "Changed: system, user." == told.splitlines()[0]
    assert "fixed b, c, broke a" in told.splitlines()[1]


def test_every_changed_text_is_named_however_many_there_are() -> None:
    names = [f"user_{n}" for n in range(1, 101)]
    start, end = dict.fromkeys(names, "a" * 50), dict.fromkeys(names, "b" * 400)
    kept = Ledger(lambda _one: None)
    kept.baseline(start, trials(0.0))
    kept.tried(end, start, trials(1.0))

    told = in_words(start, end, changes_of(kept.lineage(kept.best()), ["r" * 300]), most=1300)

    assert len(told) <= 1300
    assert [] == [name for name in names if f" {name}" not in told]


def test_what_was_not_measured_breaks_every_limit_on_it() -> None:
    unknown = Merits(None, None, None, 5)

    assert unknown.broken(CandidateLimits()) is None
    assert unknown.broken(CandidateLimits(max_p95_ms=1.0)) is not None
