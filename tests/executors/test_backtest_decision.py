"""The decision as a pure function of what was observed: how often it is wrong, and what it may not be misled by."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backtest_bench import KNOWN, RULE, frontier, job, race, side, slow_hour_is_covered
from overmind_executors.backtesting.decision import Decision, Finding, decide
from overmind_executors.backtesting.evidence import Evidence, Side
from overmind_executors.backtesting.pairs import Change
from overmind_executors.backtesting.parameters import Racing
from overmind_executors.backtesting.planning import extra_rows
from overmind_executors.backtesting.racing import looks
from overmind_executors.backtesting.rule import Reason, Rule, Verdict
from overmind_executors.calls.families import family_of


def evidence(old: Side, **candidates: Side) -> Evidence:
    return Evidence("old", {"old": old, **candidates})


def decided(old: Side, new: Side, rule: Rule = RULE) -> tuple[Decision, Finding]:
    decision = decide(evidence(old, new=new), rule)
    (finding,) = decision.findings
    return decision, finding


def test_of_five_models_that_are_no_better_none_is_switched_to_19_times_in_20() -> None:
    draw = np.random.default_rng(1)

    verdicts = Counter(decide(job(draw, rows=40, repeats=1, gains=[0.0] * 5), RULE).verdict for _ in range(400))

    assert verdicts[Verdict.SWITCH] <= 20, verdicts
    assert verdicts[Verdict.INCONCLUSIVE] >= 360, verdicts


def test_a_model_that_is_ten_points_better_is_found_with_200_rows_asked_three_times() -> None:
    draw = np.random.default_rng(2)

    winners = Counter(
        decide(job(draw, rows=200, repeats=3, gains=[0.1, 0, 0, 0, 0]), RULE).winner for _ in range(20)
    )

    assert winners["m0"] >= 16, winners


def test_a_slow_hour_moves_no_difference_beyond_its_interval() -> None:
    """The models are asked row by row: an hour that is ten times slower meets all of them."""
    draw = np.random.default_rng(3)

    assert sum(slow_hour_is_covered(draw) for _ in range(100)) >= 90


def test_the_known_frontier_is_found_95_times_in_100() -> None:
    draw = np.random.default_rng(4)

    found = [frontier(draw) for _ in range(100)]

    assert sum(KNOWN == {point.model for point in one.points if point.is_on} for one in found) >= 95
    assert all(0 <= point.membership <= 1 for one in found for point in one.points)


def test_a_race_saves_a_third_of_the_calls_and_finds_the_winner_as_often() -> None:
    draw = np.random.default_rng(5)

    raced = [race(draw) for _ in range(10)]

    assert sum(one.saved for one in raced) >= 0.3 * sum(one.requests for one in raced)
    assert sum(one.found_in_race for one in raced) >= sum(one.found for one in raced) > 5


def test_the_looks_of_a_race_double_up_to_all_rows() -> None:
    assert [20, 40, 80, 100] == looks(100, Racing())
    assert [20] == looks(20, Racing())
    assert [100] == looks(100, None)


# What a comparison of averages was misled by.


def test_rows_that_only_one_side_has_a_score_for_change_nothing() -> None:
    """The candidate has no score for the five hard rows: its own mean is higher, and it is no better."""
    old = np.array([1.0, 0.0] * 45 + [0.0] * 5)
    new = old.copy()
    new[-5:] = np.nan

    decision, finding = decided(side(old), side(new))

    assert np.nanmean(new) > old.mean()
    assert 0.0 == finding.quality.better.difference
    assert (90, 95) == (finding.quality.compared_rows, finding.quality.asked_rows)
    assert Verdict.SWITCH is not decision.verdict


def test_a_model_that_never_answered_is_blocked_and_has_no_score() -> None:
    nothing = side([np.nan] * 50, answered=False)

    decision, finding = decided(side([1.0, 0.0] * 25), nothing)

    assert (Verdict.BLOCKED, (Reason.ERROR_RATE_HIGH,)) == (finding.verdict, finding.reasons)
    assert Verdict.BLOCKED is decision.verdict
    assert 0 == finding.quality.compared_rows


def test_a_missing_price_of_the_incumbent_decides_nothing() -> None:
    scores = [1.0, 0.0] * 100

    decision, finding = decided(side(scores, cost_usd=np.nan), side(scores, cost_usd=1e-9))

    assert finding.cost is None
    assert Reason.PRICE_UNKNOWN in finding.reasons
    assert Reason.COST_LOWER not in finding.reasons
    assert Verdict.INCONCLUSIVE is decision.verdict


def test_sums_that_differ_in_their_last_digit_are_ties() -> None:
    _, finding = decided(side([0.3] * 50), side([0.1 + 0.2] * 50))

    assert (0, 50, 0) == tuple(getattr(finding.quality.better, name) for name in ("better", "equal", "worse"))


def test_a_saving_of_exactly_the_stated_share_is_enough() -> None:
    assert Change(0.001, 0.0009, -1.0, -0.1, 100).reaches(0.1)
    assert Change(900.0, 400.0, -1.0, -0.1, 100).reaches(round(500 / 900, 6))
    assert not Change(0.001, 0.00090001, -1.0, -0.1, 100).reaches(0.1)


@pytest.mark.parametrize(
    ("old", "new", "verdict", "reasons"),
    [
        ({}, {"quality": [1.0] * 200}, Verdict.SWITCH, {Reason.QUALITY_SUPERIOR}),
        ({}, {"cost_usd": 0.0005}, Verdict.SWITCH, {Reason.QUALITY_NON_INFERIOR, Reason.COST_LOWER}),
        ({}, {"latency_ms": 50.0}, Verdict.SWITCH, {Reason.QUALITY_NON_INFERIOR, Reason.LATENCY_LOWER}),
        (
            {},
            {"latency_ms": 50.0, "cost_usd": 0.002},
            Verdict.KEEP,
            {Reason.QUALITY_NON_INFERIOR, Reason.LATENCY_LOWER, Reason.COST_HIGHER},
        ),
        ({}, {}, Verdict.KEEP, {Reason.QUALITY_NON_INFERIOR}),
        ({}, {"quality": [0.0] * 200}, Verdict.KEEP, {Reason.QUALITY_INFERIOR}),
        ({}, {"gate_failed": True, "quality": [1.0] * 200}, Verdict.BLOCKED, {Reason.GATE_FAILED}),
        ({}, {"quality": [np.nan] * 50 + [1.0] * 150}, Verdict.BLOCKED, {Reason.LOW_COVERAGE}),
        ({"answered": False}, {}, Verdict.BLOCKED, {Reason.ERROR_RATE_HIGH}),
        ({}, {"latency_ms": 5000.0, "quality": [1.0] * 200}, Verdict.BLOCKED, {Reason.LATENCY_SLO_BREACH}),
        (
            {},
            {"quality": [1.0, 0.0] * 80 + [0.0, 1.0] * 20},
            Verdict.INCONCLUSIVE,
            {Reason.SAMPLE_TOO_SMALL},
        ),
    ],
)
def test_each_verdict_has_its_reasons(
    old: dict[str, Any], new: dict[str, Any], verdict: Verdict, reasons: set[Reason]
) -> None:
    scores = {"quality": [1.0, 0.0] * 100}
    rule = replace_rule(latency_slo_ms=1000.0)
    if verdict is Verdict.INCONCLUSIVE:
        new = {**new, "cost_usd": 0.0005}  # worth a switch, were it known to be no worse

    decision, finding = decided(side(**scores | old), side(**scores | new), rule)

    assert verdict is decision.verdict, finding
    assert reasons <= set(finding.reasons)


def replace_rule(**changes: Any) -> Rule:
    return RULE.model_copy(update=changes)


def test_too_few_requests_show_no_95th_percentile() -> None:
    """Of 71 requests all may lie below it, with a chance of more than 2.5 %."""
    scores = [1.0, 0.0] * 50

    few = decided(side(scores[:71]), side(scores[:71], latency_ms=50.0))[1]
    enough = decided(side(scores[:72]), side(scores[:72], latency_ms=50.0))[1]

    assert Reason.LATENCY_LOWER not in few.reasons
    assert Reason.LATENCY_LOWER in enough.reasons


def test_few_rows_settle_nothing_and_it_says_how_many_would() -> None:
    decision, finding = decided(side([0.0] * 6), side([1.0] * 6))

    assert (Verdict.INCONCLUSIVE, (Reason.SAMPLE_TOO_SMALL,)) == (decision.verdict, finding.reasons)
    assert 4 == extra_rows(finding, RULE, candidates=1)


def test_with_the_extra_rows_that_it_names_the_question_is_settled() -> None:
    old, new = np.array([0.0] * 12 + [1.0] * 6 + [1.0] * 42), np.array([1.0] * 12 + [0.0] * 6 + [1.0] * 42)
    _, open_one = decided(side(old), side(new))

    more = extra_rows(open_one, RULE, candidates=1)

    assert Verdict.INCONCLUSIVE is open_one.verdict
    assert more is not None
    times = -(-(60 + more) // 60)
    assert Verdict.SWITCH is decided(side(np.tile(old, times)), side(np.tile(new, times)))[0].verdict


def test_rows_of_one_document_count_as_one() -> None:
    old, new = side([0.0] * 100), side([1.0] * 100)
    clustered = replace(evidence(old, new=new), clusters=tuple(f"document {n % 5}" for n in range(100)))

    (finding,) = decide(clustered, RULE).findings

    assert 5 == finding.quality.better.units
    assert Verdict.INCONCLUSIVE is finding.verdict


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("openai/gpt-5-mini", "openai"),
        ("o3-2025-04-16", "openai"),
        ("us.anthropic.claude-haiku-4-5", "anthropic"),
        ("google/gemma-3", "google"),
        ("meta-llama/Llama-3.3-70B", "meta"),
        ("smollm2-135m", "smollm"),
        ("123", "123"),
    ],
)
def test_the_family_of_a_model_is_that_of_its_maker(model: str, family: str) -> None:
    assert family == family_of(model)
