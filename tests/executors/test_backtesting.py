"""The job type `model_backtesting`, over a real server: rows in, a decision out."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overmind_executors import recount, result_files
from overmind_executors.backtesting import BacktestingExecutor
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    InvalidParameters,
    ModelEndpoint,
    Result,
    WorkStopped,
)
from overmind_executors.statistics.paired import holm
from overmind_executors.stopping import StopFlag
from zoo import Status, Zoo
from zoo_judges import RubricJudge, draw

Make = Callable[..., Context]
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)


def knows(name: str, share: float, *, not_in: str = "") -> Callable[[list[dict[str, Any]]], str]:
    """A model that is right about a share of the questions, which ones by a digest; and never about *not_in*."""

    def answer(messages: list[dict[str, Any]]) -> str:
        question = str(messages[-1]["content"])
        is_right = draw(name, question) < share and not (not_in and not_in in question)
        return f"{'fine' if is_right else 'poor'} {question}"

    return answer


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    models: dict[str, Any] = {
        "old": knows("old", 0.5),
        "good": knows("good", 0.95),
        "bad": knows("bad", 0.1),
        "twin": knows("old", 0.5),
        "equal": knows("equal", 0.5),
        "uneven": knows("uneven", 1.0, not_in="german"),
        "judge-1": RubricJudge("judge"),
    }
    with Zoo(models) as opened:
        yield opened


@pytest.fixture
def make(make_context: Make, zoo: Zoo) -> Make:
    """`make(…)`: a context whose host offers every model of the zoo; `good` costs twice what the others do."""

    def with_models(given: bytes | None = None, **changes: Any) -> Context:
        prices = dict.fromkeys(zoo.models, 1.0) | {"good": 2.0, "twin": 0.5}
        models = {
            name: ModelEndpoint(name, zoo.url, name, max_concurrency=8, input_price=price, output_price=price)
            for name, price in prices.items()
        }
        models["free"] = ModelEndpoint("free", zoo.url, "good")
        return make_context(given, **{"models": models | changes.pop("more", {}), **changes})

    return with_models


def _items(count: int) -> list[dict[str, Any]]:
    segments = ("english", "english", "english", "german")
    return [
        {"id": f"r{n}", "input": f"{segments[n % 4]} question {n}", "segment": segments[n % 4]}
        for n in range(count)
    ]


def _run(context: Context, **changes: Any) -> Result:
    parameters: dict[str, Any] = {
        "items": _items(30),
        "current_model": "old",
        "models": ["good"],
        "evaluators": [{"kind": "contains", "value": "fine"}],
        "rule": {"min_saving": 0.1},
        "concurrency": 4,
    }
    executor = BacktestingExecutor(policy=QUICK)
    return executor.run(executor.validate(parameters | changes), context)


def _lines(context: Context) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.output / "rows.jsonl").read_text().splitlines()]


def _seal(context: Context, result: Result) -> Path:
    result_files.seal(context.output, result.files, {"job_type": "model_backtesting"})
    return context.output


def test_a_better_model_is_named_with_how_sure_that_is(make: Make) -> None:
    context = make()

    result = _run(context, models=["good", "bad"])

    facts = result.outcome
    comparison = facts["backtest_results"]["comparisons"]["good"]
    assert ("SWITCH", "good") == (facts["decision"]["verdict"], facts["decision"]["model"])
    assert ["QUALITY_SUPERIOR", "COST_HIGHER"] == facts["decision"]["reasons"]
    assert comparison["interval"][0] > 0
    assert round(facts["best_score"] - facts["baseline_score"], 3) == round(facts["improvement"], 3)
    assert round(100 * comparison["difference"], 4) == facts["improvement"]
    assert "QUALITY_INFERIOR" == facts["backtest_results"]["comparisons"]["bad"]["reasons"][0]
    assert ("rows.jsonl", "summary.json", "report.md", "report.html", "pareto.svg") == result.files
    assert "SWITCH" in (context.output / "report.md").read_text()


def test_latencies_have_intervals_p_values_are_holms_and_the_picture_says_how_sure_the_frontier_is(
    make: Make,
) -> None:
    """Of thirty requests the 99th percentile has no interval: too few lie beyond it."""
    context = make()

    results = _run(context, models=["good", "bad"]).outcome["backtest_results"]

    latency = results["model_results"]["good"]["aggregate_metrics"]["latency_ms"]
    low, high = latency["p50"]["interval"]
    assert low <= latency["p50"]["value"] <= high
    assert (True, None) == (latency["p95"]["value"] <= latency["p99"]["value"], latency["p99"]["interval"])
    pairs = [results["comparisons"][name] for name in ("good", "bad")]
    by_holm = holm([pair["p"]["superior"] for pair in pairs])
    assert by_holm == pytest.approx([pair["p_holm"]["superior"] for pair in pairs], rel=1e-3)
    assert pairs[0]["p"]["superior"] < pairs[0]["p_holm"]["superior"] < 0.05
    picture = (context.output / "pareto.svg").read_text()
    points = results["pareto"]["points"]
    assert {"old", "good", "bad"} == points.keys()
    assert [] == [name for name, one in points.items() if f">{name} ({one['membership']:.0%})<" not in picture]


def test_the_results_have_the_shape_that_readers_of_the_record_know(make: Make) -> None:
    context = make()

    results = _run(context).outcome["backtest_results"]

    assert {"schema", "score_scale", "model_results", "baseline_metrics", "recommendations"} <= results.keys()
    assert "overmind-agent/backtest/1" == results["schema"]
    metrics = results["model_results"]["good"]["aggregate_metrics"]
    named = {"avg_latency_ms", "total_cost", "avg_cost_per_request", "total_input_tokens", "total_output_tokens"}
    assert named | {"avg_input_tokens", "avg_output_tokens", "avg_eval_score", "success_rate"} <= metrics.keys()
    assert {"scored_span_count", "total_spans"} <= results["baseline_metrics"].keys()
    assert "switch_recommended" == results["recommendations"]["verdict"]
    assert "good" == results["recommendations"]["best_overall"]["model"]


def test_the_models_are_asked_row_by_row_in_an_order_drawn_for_each_row(make: Make, zoo: Zoo) -> None:
    context = make()

    _run(context, models=["good", "bad"], concurrency=1)

    asked = [body["model"] for body in zoo.bodies]
    rows = [asked[start : start + 3] for start in range(0, len(asked), 3)]
    assert all({"old", "good", "bad"} == set(row) for row in rows)
    assert len({tuple(row) for row in rows}) > 3
    assert rows == [line["order"] for line in _lines(context)]


def test_every_figure_can_be_made_again_from_the_rows(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    context = make()
    result = _run(context, models=["good", "uneven"], repetitions=2, items=_items(24))

    code = recount.main([str(_seal(context, result))])

    assert 0 == code, capsys.readouterr().out


def test_a_row_that_was_tampered_with_is_noticed(make: Make) -> None:
    context = make()
    folder = _seal(context, _run(context))
    path = folder / "rows.jsonl"
    path.write_text(path.read_text().replace('"quality":1.0', '"quality":0.0', 1))

    assert 1 == recount.main([str(folder)])


@pytest.mark.parametrize("name", ["report.md", "report.html", "pareto.svg"])
def test_a_report_that_is_not_true_to_the_rows_is_named(
    make: Make, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    context = make()
    folder = _seal(context, _run(context, items=_items(12)))
    (folder / name).write_text((folder / name).read_text() + "\nAnd more.\n")
    capsys.readouterr()

    assert 1 == recount.main([str(folder)])
    assert [name] == [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]]


def test_a_regression_in_a_segment_that_a_better_mean_hides_is_named(make: Make) -> None:
    facts = _run(make(), models=["uneven"], items=_items(100)).outcome

    comparison = facts["backtest_results"]["comparisons"]["uneven"]
    assert comparison["difference"] > 0
    assert "BLOCKED" == facts["decision"]["verdict"]
    assert {"QUALITY_SUPERIOR", "SEGMENT_REGRESSION"} <= set(facts["decision"]["reasons"])
    (worst, *_) = comparison["segments"]
    assert ("segment=german", "SEGMENT_REGRESSION") == (worst["segment"], worst["code"])
    assert [] != comparison["regressions"]


def test_a_model_that_fails_is_blocked_and_is_no_zero(make: Make) -> None:
    broken = ModelEndpoint("broken", "http://127.0.0.1:9", "broken", input_price=1.0, output_price=1.0)

    facts = _run(make(more={"broken": broken}), models=["broken", "good"]).outcome

    results = facts["backtest_results"]
    assert "SWITCH" == facts["decision"]["verdict"]
    assert ("BLOCKED", ["ERROR_RATE_HIGH"]) == tuple(
        results["comparisons"]["broken"][key] for key in ("verdict", "reasons")
    )
    metrics = results["model_results"]["broken"]["aggregate_metrics"]
    assert [None] * 4 == [
        metrics[key] for key in ("avg_eval_score", "avg_latency_ms", "total_cost", "usd_per_1000_requests")
    ]
    assert 0.0 == metrics["success_rate"]


def test_without_the_incumbent_there_is_nothing_to_compare_with(make: Make) -> None:
    broken = ModelEndpoint("broken", "http://127.0.0.1:9", "broken", input_price=1.0, output_price=1.0)

    facts = _run(make(more={"broken": broken}), current_model="broken", models=["good"]).outcome

    assert ("BLOCKED", ["ERROR_RATE_HIGH"]) == (facts["decision"]["verdict"], facts["decision"]["reasons"])
    assert facts["baseline_score"] is None


def test_a_job_that_nobody_answered_fails_and_says_why(make: Make, zoo: Zoo) -> None:
    zoo.fail("", Status(400))

    with pytest.raises(ExecutionFailed) as caught:
        _run(make())

    assert "no model answered any row" in str(caught.value)


def test_an_unknown_price_is_null_and_decides_nothing(make: Make) -> None:
    facts = _run(make(), models=["free"]).outcome

    results = facts["backtest_results"]
    metrics = results["model_results"]["free"]["aggregate_metrics"]
    assert (None, None) == (metrics["usd_per_1000_requests"], metrics["usd_per_1000_successes"])
    assert results["comparisons"]["free"]["cost_usd"] is None
    assert ["QUALITY_SUPERIOR", "PRICE_UNKNOWN"] == facts["decision"]["reasons"]
    assert ["quality", "p95_ms"] == results["pareto"]["respects"]


def test_money_is_told_for_requests_and_for_successes(make: Make) -> None:
    metrics = _run(make()).outcome["backtest_results"]["model_results"]["good"]["aggregate_metrics"]

    assert metrics["usd_per_1000_requests"] == round(1000 * metrics["total_cost"] / 30, 6)
    assert metrics["usd_per_1000_successes"] == round(1000 * metrics["total_cost"] / metrics["successes"], 6)
    assert metrics["usd_per_1000_successes"] > metrics["usd_per_1000_requests"]


def test_equal_answers_at_half_the_price_are_a_reason_to_switch(make: Make) -> None:
    facts = _run(make(), models=["twin"]).outcome

    assert "SWITCH" == facts["decision"]["verdict"]
    assert {"QUALITY_NON_INFERIOR", "COST_LOWER"} <= set(facts["decision"]["reasons"])
    assert 0.5 == facts["backtest_results"]["comparisons"]["twin"]["cost_usd"]["saving"]


def test_candidates_that_are_equally_good_end_inconclusive(make: Make) -> None:
    """Each is right about other rows; how many more would tell them apart is said."""
    decision = _run(make(), models=["equal"]).outcome["decision"]

    assert ("INCONCLUSIVE", None) == (decision["verdict"], decision["model"])
    assert "SAMPLE_TOO_SMALL" in decision["reasons"]
    assert decision["extra_rows"] > 30


def test_a_judge_of_the_candidates_family_is_no_reason_to_switch(make: Make) -> None:
    judge = {"models": ["judge-1"], "criteria": ["It is fine."], "pass_threshold": 0.5}
    context = make()
    models = {**context.models, "good-kin": ModelEndpoint("good-kin", context.models["good"].base_url, "judge-9")}

    facts = _run(make(models=models), models=["good", "good-kin"], judge=judge, evaluators=[]).outcome

    comparisons = facts["backtest_results"]["comparisons"]
    assert "good" == facts["decision"]["model"]
    assert "JUDGE_UNCALIBRATED" in comparisons["good"]["reasons"]
    assert "JUDGE_SAME_FAMILY" in comparisons["good-kin"]["reasons"]
    assert "SWITCH" != comparisons["good-kin"]["verdict"]


def test_a_gate_that_fails_more_often_withholds_the_switch(make: Make) -> None:
    gate = {
        "kind": "regex",
        "name": "no German",
        "pattern": "(fine .*|poor english .*)",
        "full": True,
        "gate": True,
    }

    facts = _run(make(), models=["uneven"], evaluators=[gate, {"kind": "contains", "value": "fine"}]).outcome

    assert "GATE_FAILED" in facts["decision"]["reasons"]
    assert facts["decision"]["model"] is None


def test_two_hosts_of_one_model_are_two_models(make: Make, zoo: Zoo) -> None:
    """Their requests are alike to the last byte; the journal must not give one the other's answer."""
    other = ModelEndpoint("old-2", zoo.url, "old", input_price=1.0, output_price=1.0)

    facts = _run(make(more={"old-2": other}), models=["old-2"]).outcome

    assert 60 == facts["usage"]["model_calls"] == zoo.total


def test_an_effort_is_asked_for(make: Make, zoo: Zoo) -> None:
    facts = _run(make(), current_model="good", models=["good:reasoning-low"]).outcome

    efforts = [body.get("reasoning_effort") for body in zoo.bodies]
    assert (30, 30) == (efforts.count(None), efforts.count("low"))
    assert ["good:reasoning-low"] == list(facts["backtest_results"]["model_results"])


def test_a_race_ends_early_for_a_hopeless_model(make: Make, zoo: Zoo) -> None:
    context = make()

    result = _run(context, models=["good", "bad"], racing={"first_rows": 20, "alpha": 0.05}, items=_items(70))

    comparison = result.outcome["backtest_results"]["comparisons"]["bad"]
    assert comparison["out_after_rows"] in (20, 40)
    assert "KEEP" == comparison["verdict"]
    assert "good" == result.outcome["decision"]["model"]
    assert zoo.total == 140 + comparison["out_after_rows"]
    assert 0 == recount.main([str(_seal(context, result))])


def test_a_budget_that_ends_leaves_a_valid_part(make: Make, zoo: Zoo) -> None:
    facts = _run(make(), budget={"max_calls": 50}, models=["twin"]).outcome

    assert 50 == zoo.total
    assert ("partial", "budget_exhausted") == (facts["status"], facts["termination_reason"])
    assert "BUDGET_EXHAUSTED" in facts["decision"]["reasons"]


def test_a_budget_that_no_verdict_can_come_of_is_refused_before_any_call(make: Make, zoo: Zoo) -> None:
    """Ten rows are the fewest that the rule decides by: twenty calls."""
    with pytest.raises(InvalidParameters, match="fewest rows that a verdict needs take at least 20, more than 19"):
        _run(make(), budget={"max_calls": 19}, models=["twin"])

    assert 0 == zoo.total


@pytest.mark.parametrize("more", [{}, {"racing": {"first_rows": 10}}, {"judge": {"models": ["judge-1"]}}])
def test_what_a_backtest_used_lies_within_what_was_expected(make: Make, more: dict[str, Any]) -> None:
    facts = _run(make(), models=["good", "bad"], prompt={"max_tokens": 20}, **more).outcome

    used, estimate = facts["usage"], facts["estimate"]
    assert (60 if "racing" in more else 90) <= estimate["calls"]["low"] + 10
    for name, what in (("calls", "model_calls"), ("tokens", "tokens"), ("cost_usd", "cost_usd")):
        assert estimate[name]["low"] <= used[what] <= (estimate[name]["ceiling"] or used[what]), name
    assert (facts["estimate"]["tokens"]["ceiling"] is None) is ("judge" in more)


def test_progress_says_what_was_spent_and_how_long_it_will_take(make: Make) -> None:
    told: list[str] = []
    paces: list[tuple[float | None, float | None]] = []

    _run(make(report=lambda _step, _total, name: told.append(name), report_pace=lambda *of: paces.append(of)))

    assert re.fullmatch(r"rows \(\d+ calls, \$\d\.\d{4}, about \d+ s left\)", told[-2])
    assert re.fullmatch(r"rows \(60 calls, \$\d\.\d{4}\)", told[-1])
    usd, etas_s = zip(*paces, strict=True)
    assert etas_s[-1] is None
    assert 0 < usd[0] <= usd[-1]
    assert sorted(usd) == list(usd)
    assert any(eta_s is not None for eta_s in etas_s)


def test_two_settings_of_one_model_are_two_candidates(make: Make, zoo: Zoo) -> None:
    """Each asked in its own way; what a setting does not say is the job's prompt."""
    settings = {
        "plain": {"model": "old", "temperature": 0.0},
        "guided": {"model": "good:reasoning-low", "system_prompt": "Think.", "max_tokens": 7},
    }

    facts = _run(
        make(), current_model="plain", models=["guided"], settings=settings,
        prompt={"temperature": 1.0, "messages_template": [{"role": "user", "content": "{input}"}]},
    ).outcome  # fmt: skip

    asked = {body["model"]: body for body in zoo.bodies}
    assert (0.0, 1) == (asked["old"]["temperature"], len(asked["old"]["messages"]))
    assert ("low", 1.0, 7) == tuple(
        asked["good"][name] for name in ("reasoning_effort", "temperature", "max_tokens")
    )
    assert ["system", "user"] == [message["role"] for message in asked["good"]["messages"]]
    assert ("SWITCH", "guided") == (facts["decision"]["verdict"], facts["decision"]["model"])
    assert {"temperature": 0.0} == facts["identities"]["plain"]["settings"]


def test_streamed_answers_are_the_same_and_tell_when_their_first_word_came(make: Make, zoo: Zoo) -> None:
    zoo.pause_s = 0.02
    context = make()

    facts = _run(context, stream=True).outcome

    told = facts["backtest_results"]["baseline_metrics"]
    assert {True} == {body["stream"] for body in zoo.bodies}
    assert 30 == told["answered"]
    assert told["total_output_tokens"] > 30
    for line in _lines(context):
        cell = line["models"]["good"]
        assert cell["output"].endswith(line["input"])
        assert cell["first_token_ms"] < cell["latency_ms"]
    assert 0 < told["first_token_ms"]["p50"]["value"] < told["latency_ms"]["p50"]["value"]
    assert "To the first token" in (context.output / "report.md").read_text()


def _recorded(count: int, *, share: float = 0.5, **more: Any) -> list[dict[str, Any]]:
    """Rows with the outputs that the incumbent had made before."""
    answer = knows("old", share)
    return [row | {"output": answer([{"content": row["input"]}]), **more} for row in _items(count)]


def test_an_incumbent_may_be_what_the_rows_recorded(make: Make, zoo: Zoo) -> None:
    """It is not asked and need not be there. Its answers are scored like the others'; its latency is not."""
    context = make()
    items = _recorded(30, latency_ms=9000.0, cost_usd=0.5)

    result = _run(context, items=items, baseline="recorded", current_model="last year's", models=["good"])

    facts = result.outcome
    pair = facts["backtest_results"]["comparisons"]["good"]
    assert ["good"] * 30 == [body["model"] for body in zoo.bodies]
    assert "SWITCH" == facts["decision"]["verdict"]
    assert {"QUALITY_SUPERIOR", "COST_LOWER"} == set(facts["decision"]["reasons"])
    assert (None, 0.5) == (pair["p95_ms"], pair["cost_usd"]["incumbent"])
    assert ["quality", "cost_usd"] == facts["backtest_results"]["pareto"]["respects"]
    assert facts["identities"]["last year's"]["recorded"]
    assert 0 == recount.main([str(_seal(context, result))])


def test_a_row_without_a_recorded_output_is_no_row_of_the_incumbents(make: Make) -> None:
    items = [*_recorded(20), *_items(30)[20:]]

    facts = _run(make(), items=items, baseline="recorded", current_model="old").outcome

    pair = facts["backtest_results"]["comparisons"]["good"]
    assert (20, 1.0) == (pair["rows"], pair["coverage"])
    assert {"recorded": 20, "recorded_missing_output": 10} == (
        facts["backtest_results"]["baseline_metrics"]["outcomes"]
    )


def test_equal_recorded_answers_are_no_reason_to_switch(make: Make) -> None:
    """What is faster today than it was then is no saving."""
    items = _recorded(30, latency_ms=9000.0, cost_usd=0.0000001)

    decision = _run(make(), items=items, baseline="recorded", current_model="then", models=["twin"]).outcome[
        "decision"
    ]

    assert "LATENCY_LOWER" not in decision["reasons"]
    assert decision["model"] is None


def test_a_cancel_ends_the_work(make: Make, zoo: Zoo) -> None:
    stop = StopFlag()
    context = make(stop=stop)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            _run(context, items=_items(500))
        except WorkStopped as error:
            raised.append(error)

    zoo.close_gate(after=20)
    thread = threading.Thread(target=work)
    thread.start()
    zoo.wait_for_calls(21)
    stop.set()
    zoo.open_gate()
    thread.join(20)

    assert [WorkStopped] == [type(error) for error in raised]
    assert zoo.total <= 20 + 8


def test_resumed_it_pays_for_the_rest_alone_and_says_the_same(make: Make, zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "state-1").mkdir()
    undisturbed = make(output=tmp_path / "first", state=tmp_path / "state-1")
    _run(undisturbed, models=["good", "bad"])
    stop = StopFlag()
    context = make(stop=stop)

    def report(done: int, _total: int, _step: str) -> None:
        if done == 10:
            stop.set()

    with pytest.raises(WorkStopped):
        _run(make(stop=stop, report=report), models=["good", "bad"])
    before = zoo.total
    _run(make(), models=["good", "bad"])

    assert 180 + 4 >= zoo.total >= 180
    assert before < 180
    assert [_plain(line) for line in _lines(undisturbed)] == [_plain(line) for line in _lines(context)]


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what the clock says."""
    of_the_clock = {"latency_ms", "started_at", "attempts"}
    models = {
        name: {key: value for key, value in cell.items() if key not in of_the_clock}
        for name, cell in line["models"].items()
    }
    return {**line, "models": models}


def test_a_model_that_the_hosts_owner_keeps_from_such_jobs_is_not_asked(make: Make, zoo: Zoo) -> None:
    with pytest.raises(ExecutionFailed) as caught:
        _run(make(barred_models=frozenset({"bad"})), models=["bad:reasoning-low"])

    assert "model_not_allowed" == caught.value.reason
    assert 0 == zoo.total


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"models": ["nobody"]}, "models: no model 'nobody' on this host"),
        ({"models": ["old"]}, "model 'old' is named twice"),
        ({"evaluators": []}, "nothing to score with"),
        ({"models": ["free"], "budget": {"max_usd": 1.0}}, "the price of model free is not known"),
        ({"rule": {"margin": 0.0}}, "rule.margin"),
        ({"rule": {"confidence": 0.999999}}, "rule.confidence"),
        ({"items": [], "path": "x"}, "items"),
        ({"settings": {"x": {"model": "good"}}}, "settings.x is neither the current model nor a candidate"),
        (
            {"models": ["x"], "settings": {"x": {"model": "goood"}}},
            "settings.x.model: no model 'goood' on this host; did you mean 'good'?",
        ),
    ],
)
def test_what_cannot_be_run_is_named(make: Make, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        _run(make(), **changes)

    assert problem in str(caught.value)


def test_however_much_is_measured_the_outcome_fits_into_the_record(make: Make) -> None:
    context = make()
    models = {f"m{n}": ModelEndpoint(f"m{n}", context.models["old"].base_url, "good") for n in range(12)}
    evaluators = [{"kind": "contains", "value": "fine", "name": f"{n:03d}-" + "n" * 90} for n in range(50)]
    items = [{**item, "id": f"{item['id']}-" + "r" * 240, "segment": "s" * 90} for item in _items(12)]

    outcome = _run(
        make(models={**context.models, **models}), models=list(models), items=items, evaluators=evaluators
    ).outcome

    assert result_files.MAX_OUTCOME_BYTES >= len(json.dumps(outcome, ensure_ascii=False).encode())
    assert ["report_markdown", "regressions and gains", "segments", "evaluators"] == outcome["left_out"]
    assert set(models) == outcome["backtest_results"]["model_results"].keys()


def test_words_of_strangers_stay_text_in_the_report(make: Make) -> None:
    items = [{**item, "input": f"<script>alert(1)</script> {item['input']}"} for item in _items(30)]
    context = make()

    _run(context, items=items, models=["bad"])

    assert "<script>" not in (context.output / "report.html").read_text()


def test_a_row_that_got_worse_comes_with_both_outputs_and_what_the_judge_said(make: Make) -> None:
    judge = {"models": ["judge-1"], "criteria": ["It is fine."], "pass_threshold": 0.5}
    context = make()

    _run(context, models=["bad"], judge=judge, evaluators=[])

    lines = {line["item_id"]: line["models"] for line in _lines(context)}
    told = (context.output / "report.md").read_text().partition("## Rows that got worse")[2].partition("\n## ")[0]
    found = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line.startswith("| bad")
    ]
    assert 5 == len(found)
    for _, row, _, before, said_before, after, said_after in found:
        assert [before, after] == [lines[row][name]["output"] for name in ("old", "bad")]
        assert ("", True) == (said_before, "judge-1 says no to rule-1: so" in said_after.replace("\\", ""))
