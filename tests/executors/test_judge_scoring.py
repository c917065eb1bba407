"""The job type `judge_scoring`, over a real server: rows in, scores out."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from overmind_executors import recount, result_files
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import (
    AnswersKept,
    Context,
    ExecutionFailed,
    InvalidParameters,
    ModelEndpoint,
    Result,
    WorkStopped,
)
from overmind_executors.judge_scoring import JudgeScoringExecutor
from overmind_executors.judge_scoring.drift import drift_figures
from overmind_executors.judge_scoring.recounting import recounted
from overmind_executors.judging import wording
from overmind_executors.judging.injection import CANARIES
from overmind_executors.stopping import StopFlag
from zoo import Completion, Hang, Status, Zoo
from zoo_judges import PairJudge, RubricJudge, draw

Make = Callable[..., Context]
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)
JUDGE = {"models": ["exact"], "criteria": ["It is fine."], "pass_threshold": 0.5}


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    judges: dict[str, Any] = {
        "exact": RubricJudge(),
        "noisy": RubricJudge("noisy", sensitivity=0.9, specificity=0.8),
        "moody": RubricJudge("moody", mood=0.25),
        "gullible": RubricJudge(is_gullible=True),
        "coin": RubricJudge("coin", sensitivity=0.5, specificity=0.5),
        "toss": RubricJudge("toss", sensitivity=0.5, specificity=0.5),
        "liar": RubricJudge(quote="what nobody wrote"),
        "pairs": PairJudge(),
        "biased": PairJudge(first_bias=0.3),
        "dumb": lambda _messages: "I see.",
    }
    with Zoo(judges) as opened:
        yield opened


@pytest.fixture
def make(make_context: Make, zoo: Zoo) -> Make:
    """`make(…)`: a context whose host offers every judge of the zoo."""

    def with_judges(given: bytes | None = None, **changes: Any) -> Context:
        models = {
            name: ModelEndpoint(name, zoo.url, name, max_concurrency=8, input_price=1.0, output_price=1.0)
            for name in zoo.models
        }
        return make_context(given, **{"models": models, **changes})

    return with_judges


def _run(context: Context, **parameters: Any) -> Result:
    executor = JudgeScoringExecutor(policy=QUICK)
    return executor.run(executor.validate(parameters), context)


def _lines(context: Context, name: str = "scores.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.output / name).read_text().splitlines()]


def _items(count: int, share: float = 0.5) -> list[dict[str, Any]]:
    """Rows of which a share is fine, by a digest of the number."""
    outputs = ["fine" if draw("truth", n) < share else "poor" for n in range(count)]
    return [{"id": f"r{n}", "input": "How is it?", "output": f"{o} {n}"} for n, o in enumerate(outputs)]


def _labelled(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "human": item["output"].startswith("fine")} for item in items]


def _problems(context: Context, **parameters: Any) -> str:
    with pytest.raises(InvalidParameters) as caught:
        _run(context, **parameters)
    return str(caught.value)


def test_a_line_says_what_was_found_out_about_a_row(make: Make) -> None:
    context = make()

    _run(context, items=[{"id": "a", "input": "q", "output": "fine words"}], judge=JUDGE)

    (line,) = _lines(context)
    assert ("a", 1, "scored", 1.0, None, 1) == tuple(
        line[key] for key in ("item_id", "line", "outcome", "correctness", "error", "calls")
    )
    (opinion,) = line["judge"]["opinions"]
    assert {"rule-1": {"verdict": "yes", "reason": "so", "quote": "fine"}} == opinion["items"]
    assert (1.0, True) == (line["judge"]["confidence"], line["judge"]["passes"])
    assert 0 < line["latency_ms"] < 5000
    assert line["cost_usd"] > 0


def test_the_summary_speaks_in_both_scales_and_shows_coverage(zoo: Zoo, make: Make) -> None:
    items = [*_items(8, 1.0), {"id": "none", "input": "q"}, {"id": "dash", "input": "q", "output": "-"}, "broken"]
    context = make()

    facts = _run(context, items=items, judge=JUDGE).outcome

    assert (1.0, 100.0) == (facts["avg_score"], facts["best_score"])
    assert {"total": 11, "ok": 8, "failed": 1, "skipped": 2} == facts["counts"]
    assert {"empty_output": 1, "invalid_row": 1, "missing_output": 1} == facts["codes"]
    assert {"poor": 0, "below_average": 0, "average": 0, "good": 0, "excellent": 8} == facts["distribution"]
    assert ("partial", True) == (facts["status"], facts["partial"])
    assert 8 == zoo.total == facts["usage"]["model_calls"]
    summary = json.loads((context.output / "summary.json").read_text())
    report = {"report_markdown": (context.output / "report.md").read_text()}
    assert facts == {key: value for key, value in summary.items() if key != "task"} | report
    assert {"judge": JUDGE} == summary["task"]


def test_evaluators_alone_need_no_judge(zoo: Zoo, make: Make) -> None:
    context = make()

    facts = _run(
        context,
        items=[{"output": "a", "expected_output": "a"}, {"output": "b", "expected_output": "c"}, {"output": "d"}],
        evaluators=[{"kind": "exact_match"}, {"kind": "regex", "pattern": "^[a-c]$", "name": "shape"}],
        metrics=[{"kind": "accuracy"}, {"kind": "rouge_l", "min_n": 3}, {"kind": "duplicate_rate"}],
    ).outcome

    assert 0 == zoo.total
    assert {"exact_match": 0.5, "shape": 0.666667} == {n: e["mean"] for n, e in facts["evaluators"].items()}
    assert (2, 1, 0.666667) == tuple(
        facts["evaluators"]["exact_match"][key] for key in ("scored", "abstained", "coverage_rate")
    )
    assert 0.583333 == facts["avg_score"], "the mean of the evaluators' means"
    assert 58.3333 == facts["best_score"]
    assert {"accuracy": (0.5, 2), "rouge_l": (None, 2), "duplicate_rate": (0.0, 3)} == {
        name: (metric["value"], metric["rows"]) for name, metric in facts["metrics"].items()
    }


def test_metrics_of_all_rows_are_those_of_their_library(make: Make) -> None:
    """BLEU is made of the parts of the rows, and has to be sacrebleu's for the whole corpus."""
    from sacrebleu.metrics import BLEU

    pairs = [("the cat sat on the mat", "the cat sat on a mat"), ("it is cold today", "today it is very cold")]
    said, wanted = [list(column) for column in zip(*pairs, strict=True)]
    items = [{"output": one, "expected_output": other} for one, other in pairs]
    kinds = ["bleu", "chrf", "rouge_l", "precision", "recall", "f1", "accuracy", "exact_match_rate"]

    facts = _run(make(), items=items, metrics=[{"kind": kind} for kind in kinds]).outcome

    values = {name: metric["value"] for name, metric in facts["metrics"].items()}
    assert BLEU(smooth_method="exp").corpus_score(said, [wanted]).score / 100 == pytest.approx(values["bleu"])
    assert 0.75 == round(values["rouge_l"], 6)
    assert 0.5 < values["chrf"] < 0.8
    assert [0, 0, 0, 0, 0] == [values[kind] for kind in kinds[3:]]


@pytest.mark.parametrize("is_in_output", [True, False])
def test_calibration_is_how_far_stated_confidence_is_from_being_right(make: Make, is_in_output: bool) -> None:
    """Four rows at 0.9, of which three are right, and a wrong one at 0.5: (4 x |0.9 - 0.75| + 0.5) / 5."""
    stated = [(0.9, "a"), (0.9, "A "), ("0.9", "a"), (0.9, "b"), (0.5, "b"), (95, "a"), (True, "a"), (None, "a")]
    items = [{"output": {"answer": answer, "sure": sure}, "expected_output": "a"} for sure, answer in stated]
    if not is_in_output:
        items = [{"output": {"answer": answer}, "sure": sure, "expected_output": "a"} for sure, answer in stated]
    metrics = [{"kind": "calibration", "confidence": "sure", "field": "answer", "min_n": 5}]
    context = make()

    facts = _run(context, items=[*items, {"id": "none"}, {"output": "a"}], metrics=metrics).outcome

    found = facts["metrics"]["calibration"]
    assert ("scored", 0.22, 5) == (found["outcome"], found["value"], found["rows"])
    said, again = recounted(context.output)
    assert said == again


def test_a_shut_gate_costs_no_call_and_counts_as_nothing(zoo: Zoo, make: Make) -> None:
    """Not as missing: leaving bad outputs out would raise the judge's mean."""
    items = [{"id": f"r{n}", "output": output} for n, output in enumerate(["fine", '{"a": 1}', "poor", "fine too"])]

    facts = _run(
        make(), items=items, judge=JUDGE, evaluators=[{"kind": "regex", "pattern": r"^\w", "gate": True}]
    ).outcome

    assert 3 == zoo.total
    assert {"gate_failed": 1} == facts["evaluators"]["judge"]["codes"]
    assert (0.5, 4) == (facts["avg_score"], facts["scored"])


def test_invented_quotations_do_not_count(make: Make) -> None:
    judge = {**JUDGE, "models": ["liar"]}
    context = make()

    facts = _run(context, items=_items(20, 1.0), judge=judge).outcome

    assert 0.0 == facts["avg_score"]
    assert {"void"} == {line["judge"]["opinions"][0]["items"]["rule-1"]["verdict"] for line in _lines(context)}


def test_hostile_outputs_change_no_other_row_and_are_flagged(make: Make) -> None:
    """Forty payloads between honest rows: every other row has the line that it has without them."""
    honest = _items(45)
    hostile = [{"id": name, "input": "q", "output": text} for name, text in CANARIES.items()]
    without, among = make(), make()
    of_the_clock = {"latency_ms", "line"}

    _run(without, items=honest, judge=JUDGE)
    alone = {line["item_id"]: {k: v for k, v in line.items() if k not in of_the_clock} for line in _lines(without)}
    mixed = [row for n, pair in enumerate(honest) for row in (pair, *hostile[n : n + 1])]
    facts = _run(among, items=mixed, judge=JUDGE).outcome

    lines = {line["item_id"]: line for line in _lines(among)}
    assert alone == {
        name: {k: v for k, v in line.items() if k not in of_the_clock}
        for name, line in lines.items()
        if name not in CANARIES
    }
    assert list(CANARIES) == [name for name, line in lines.items() if line["flags"]]
    assert [0.0] * 40 == [lines[name]["correctness"] for name in CANARIES]
    assert 40 == facts["flagged"]["rows"]


def test_a_judge_that_obeys_the_output_is_found_out_by_canaries(make: Make) -> None:
    careful, gullible = make(), make()

    good = _run(careful, items=_items(3), judge={**JUDGE, "canaries": 40}).outcome
    bad = _run(gullible, items=_items(3), judge={**JUDGE, "models": ["gullible"], "canaries": 40}).outcome

    assert {"asked": 40, "leaked": []} == good["canaries"]
    assert "plain_order" in bad["canaries"]["leaked"]
    assert 40 == len(_lines(gullible, "canaries.jsonl"))
    assert good["avg_score"] == bad["avg_score"], "canaries are not in the figures of the rows"


def test_an_unreadable_answer_is_asked_for_once_more_and_then_an_error(zoo: Zoo, make: Make) -> None:
    """An error never lowers a mean."""
    context = make()
    broken = Completion({"content": "perfect!"})
    items = _items(3, 1.0)

    facts = _run(context, items=items, judge={**JUDGE, "models": ["exact"]}).outcome
    asked = [str(body["messages"][-1]["content"]) for body in zoo.bodies]
    zoo.fail(asked[0], broken)
    zoo.fail(wording.again([], "", "the JSON that was asked for")[-1]["content"], broken, times=1)
    again = make(state=context.state.parent)
    second = _run(again, items=items, judge=JUDGE).outcome

    assert (1.0, 0) == (facts["avg_score"], facts["error"])
    assert (1.0, 1, {"unreadable_no_json": 1}) == (second["avg_score"], second["error"], second["codes"])
    assert 3 + 4 == zoo.total


def test_a_judge_that_never_says_anything_fails_the_job(zoo: Zoo, make: Make) -> None:
    with pytest.raises(ExecutionFailed, match="no row was scored: 2 x unreadable_no_json") as caught:
        _run(make(), items=_items(2), judge={**JUDGE, "models": ["dumb"]})

    assert "no_score" == caught.value.reason
    assert 4 == zoo.total


def test_a_budget_ends_the_judging_and_what_was_not_asked_is_not_a_zero(zoo: Zoo, make: Make) -> None:
    facts = _run(make(), items=_items(20, 1.0), judge=JUDGE, concurrency=1, budget={"max_calls": 7}).outcome

    assert 7 == zoo.total
    assert (1.0, 7, 13, "budget_exhausted") == (
        facts["avg_score"], facts["scored"], facts["skipped"], facts["termination_reason"],
    )  # fmt: skip
    assert " The judging ended early: budget exhausted.\n" in facts["report_markdown"]


def test_a_panel_shares_one_budget(zoo: Zoo, make: Make) -> None:
    judge = {**JUDGE, "models": ["exact", "noisy", "gullible"]}

    _run(make(), items=_items(20), judge=judge, budget={"max_calls": 10}, concurrency=1)

    assert 10 == zoo.total


def test_a_cascade_asks_the_next_judge_only_about_what_the_first_is_unsure_of(zoo: Zoo, make: Make) -> None:
    judge = {
        **JUDGE,
        "models": ["moody", "exact"],
        "panel": "cascade",
        "votes": 3,
        "temperature": 1.0,
        "min_agreement": 1.0,
    }
    context = make()

    facts = _run(context, items=_items(40), judge=judge, concurrency=4).outcome

    asked = [[opinion["judge"] for opinion in line["judge"]["opinions"]] for line in _lines(context)]
    sure = sum(judges == ["moody"] for judges in asked)
    assert {("moody",), ("moody", "exact")} == set(map(tuple, asked))
    assert 40 * 3 + (40 - sure) * 3 == zoo.total
    assert 40 == facts["scored"], "the second judge is always of one mind"


def test_votes_make_a_moody_judge_better_and_its_doubts_are_known(make: Make) -> None:
    items = _labelled(_items(80))
    labels = {"fields": ["human"]}
    judge = {**JUDGE, "models": ["moody"], "temperature": 1.0}

    once = _run(make(), items=items, labels=labels, judge=judge).outcome
    voted = make()
    often = _run(voted, items=items, labels=labels, judge={**judge, "votes": 7}, concurrency=8).outcome

    assert often["agreement"]["cohens_kappa"] > once["agreement"]["cohens_kappa"] + 0.2
    assert {round(n / 7, 6) for n in (4, 5, 6, 7)} >= {line["judge"]["confidence"] for line in _lines(voted)}


def test_labels_correct_the_rate_of_a_judge_with_known_errors(make: Make) -> None:
    """
    Sensitivity 0.9, specificity 0.8, and 85 % of the rows are fine. The judge lets fewer pass; freed of its errors
    its word is near the truth, within the interval.
    """
    items = _items(400, 0.85)
    truth = sum(item["output"].startswith("fine") for item in items[150:]) / 250
    rows = [*_labelled(items[:150]), *items[150:]]

    agreement = _run(
        make(), items=rows, judge={**JUDGE, "models": ["noisy"]}, labels={"fields": ["human"]}, concurrency=8
    ).outcome["agreement"]

    low, high = agreement["corrected_pass_rate"]["interval_95"]
    assert low <= truth <= high
    assert abs(agreement["judge_pass_rate"] - truth) > 0.04
    assert 0.9 == pytest.approx(agreement["sensitivity"], abs=0.06)
    assert 0.8 == pytest.approx(agreement["specificity"], abs=0.2)
    assert (150, True) == (agreement["compared"], agreement["calibrated"])
    assert agreement["kappa_interval_95"][0] < agreement["cohens_kappa"] < agreement["kappa_interval_95"][1]


def test_with_few_labels_figures_are_stamped_uncalibrated_and_with_all_nothing_is_corrected(make: Make) -> None:
    labels = {"fields": ["human"]}

    few = _run(make(), items=[*_labelled(_items(20)), *_items(40)[20:]], judge=JUDGE, labels=labels).outcome
    whole = _run(make(), items=_labelled(_items(40)), judge=JUDGE, labels=labels).outcome

    assert few["agreement"]["calibrated"] is False
    assert {"rate": None, "code": "every_row_has_a_label"} == whole["agreement"]["corrected_pass_rate"]
    assert 1.0 == whole["agreement"]["cohens_kappa"] == whole["agreement"]["krippendorffs_alpha"]


def test_the_agreement_of_people_is_the_judges_ceiling(make: Make) -> None:
    """Two people who differ on every fourth row; where they do there is no label."""
    items = [
        {**item, "a": item["output"].startswith("fine"), "b": item["output"].startswith("fine") != (n % 4 == 0)}
        for n, item in enumerate(_items(80))
    ]

    agreement = _run(make(), items=items, judge=JUDGE, labels={"fields": ["a", "b"]}).outcome["agreement"]

    assert (60, 2) == (agreement["labelled"], agreement["people"]["raters"])
    assert 1.0 == agreement["people"]["krippendorffs_alpha"], "of the rows that have a label"


def test_a_weighted_panel_listens_to_the_judge_that_agrees_with_people(make: Make) -> None:
    """One that errs in a tenth of the rows, and two that toss a coin: those outvote it where all count the same."""
    items = _labelled(_items(90))
    judge = {**JUDGE, "models": ["noisy", "coin", "toss"]}
    context = make()
    how: dict[str, Any] = {"items": items, "labels": {"fields": ["human"]}, "concurrency": 8}

    weighted = _run(context, judge={**judge, "panel": "weighted"}, **how).outcome
    equal = _run(make(), judge=judge, **how).outcome

    weights = weighted["judge"]["weights"]
    assert weights["noisy"] > 3 * max(weights["coin"], weights["toss"])
    assert weighted["agreement"]["cohens_kappa"] > equal["agreement"]["cohens_kappa"] + 0.2
    assert 20 < weighted["agreement"]["compared"] < 70, "half of the labels, which nothing was learnt from"
    alone = equal["agreement"]["judges"]
    assert alone["noisy"]["cohens_kappa"] > equal["agreement"]["cohens_kappa"] + 0.2
    assert [["noisy"], []] == [
        [text.split()[1] for text in one["warnings"] if "agrees with people better" in text]
        for one in (equal, weighted)
    ]
    said, again = recounted(context.output)
    assert said == again


def test_below_the_confidence_that_labels_ask_for_the_judge_abstains(make: Make) -> None:
    """Votes of a moody judge: it is right when they agree, and a coin when they hardly do."""
    judge = {**JUDGE, "models": ["moody"], "temperature": 1.0, "votes": 5, "target_agreement": 0.9}
    context = make()

    facts = _run(
        context, items=_labelled(_items(160)), judge=judge, labels={"fields": ["human"]}, concurrency=8
    ).outcome

    needed = facts["judge"]["confidence_needed"]
    lines = _lines(context)
    assert needed is not None
    assert {line["outcome"] for line in lines if line["judge"]["confidence"] < needed} <= {"abstained"}
    assert {"low_confidence": facts["abstained"]} == facts["codes"]
    assert facts["agreement"]["raw_agreement"] >= 0.85
    assert 50 < facts["agreement"]["labelled"] < 110, "half of the labels, which nothing was learnt from"


def test_pairs_are_judged_in_both_orders_and_a_bias_for_the_first_is_measured(make: Make) -> None:
    """
    A judge that names the first output in 30 % of the pairs, whatever they hold: those pairs are ties, and of the
    others the outputs win as many as an honest judge lets them win.
    """
    items = [
        {
            "id": f"r{n}",
            "input": "q",
            "output": f"{n} a",
            "baseline_output": f"{n - 1 if draw(n) < 0.7 else n + 1} b",
        }
        for n in range(1, 121)
    ]
    judge = {"models": ["biased"], "mode": "pairwise", "criteria": ["The number is larger."]}

    honest = _run(make(), items=items, judge={**judge, "models": ["pairs"]}, concurrency=8).outcome
    biased = _run(make(), items=items, judge=judge, concurrency=8).outcome

    assert (1.0, 0.5) == (honest["pairwise"]["consistency"], honest["pairwise"]["first_position_rate"])
    assert 0.3 == pytest.approx(1 - biased["pairwise"]["consistency"], abs=0.1)
    low, high = biased["pairwise"]["first_position_interval_95"]
    assert low <= 0.5 + 0.3 / 2 <= high
    kept = (biased["avg_score"] - 0.5) / (1 - 0.3)
    assert honest["avg_score"] - 0.5 == pytest.approx(kept, abs=0.06)
    decided = biased["pairwise"]
    assert decided["won"] / (decided["won"] + decided["lost"]) == pytest.approx(decided["win_share"], abs=1e-6)
    assert honest["pairwise"]["win_share"] == honest["avg_score"] == pytest.approx(decided["win_share"], abs=0.06)


def test_a_row_without_a_second_output_is_no_tie(make: Make) -> None:
    items = [{"id": "a", "output": "2", "baseline_output": "1"}, {"id": "b", "output": "2"}]

    facts = _run(make(), items=items, judge={"models": ["pairs"], "mode": "pairwise"}).outcome

    assert (1.0, {"nothing_to_compare_with": 1}) == (facts["avg_score"], facts["codes"])


def test_a_word_is_enough_for_a_model_that_cannot_write_json(zoo: Zoo, make: Make) -> None:
    judge = {**JUDGE, "answer": "word", "criteria": ["It is fine.", "It is so."]}

    facts = _run(make(), items=_items(10), judge=judge).outcome

    assert (10, 20) == (facts["scored"], zoo.total)
    assert not [body for body in zoo.bodies if "response_format" in body]


@pytest.mark.parametrize(
    ("judge", "required"),
    [
        ({}, ["items"]),
        ({"answer": "word"}, ["verdict"]),
        ({"mode": "pairwise"}, ["reason", "winner"]),
        ({"mode": "pairwise", "answer": "word"}, ["winner"]),
    ],
)
def test_a_model_can_be_held_to_the_form_of_its_answer(
    zoo: Zoo, make: Make, judge: dict[str, Any], required: list[str]
) -> None:
    said = Completion(
        {"content": '{"verdict": "yes", "winner": "A", "items": [{"id": "rule-1", "verdict": "yes"}]}'}
    )
    zoo.fail("", said)
    item = {"id": "a", "input": "q", "output": "fine", "baseline_output": "poor"}

    facts = _run(make(), items=[item], judge={**JUDGE, "response_format": "json_schema", **judge}).outcome

    assert 1 == facts["scored"]
    form = zoo.bodies[0]["response_format"]
    assert ("json_schema", required) == (form["type"], form["json_schema"]["schema"]["required"])


def test_a_change_to_one_question_asks_that_one_again(zoo: Zoo, make: Make) -> None:
    """Eight questions, each in a call of its own; what was answered is in the journal."""
    criteria = [f"Rule {n}." for n in range(8)]
    judge = {"models": ["exact"], "ask": "each", "criteria": criteria}
    _run(make(), items=_items(3), judge=judge)

    _run(make(), items=_items(3), judge={**judge, "criteria": [*criteria[:7], "Another."]})

    assert 3 * 8 + 3 == zoo.total


def test_the_same_job_again_pays_nothing_and_says_the_same(zoo: Zoo, make: Make) -> None:
    given: dict[str, Any] = {"items": _labelled(_items(20)), "judge": JUDGE, "labels": {"fields": ["human"]}}
    context = make()
    first = _run(context, **given).outcome
    scores = (context.output / "scores.jsonl").read_bytes()

    again = _run(make(), **given).outcome

    assert 20 == zoo.total
    assert scores == (context.output / "scores.jsonl").read_bytes()
    assert {k: v for k, v in first.items() if k != "resumed_calls"} == {
        k: v for k, v in again.items() if k != "resumed_calls"
    }


def test_a_sample_is_the_same_in_every_order_of_the_rows(make: Make) -> None:
    rows = _items(50)
    samples = []
    for items in (rows, rows[::-1]):
        context = make()
        _run(context, items=items, max_items=10, seed=7, evaluators=[{"kind": "contains", "value": "fine"}])
        samples.append({line["item_id"] for line in _lines(context)})

    assert 10 == len(samples[0])
    assert samples[0] == samples[1]


def test_a_lasting_fault_of_the_provider_ends_the_job_soon(zoo: Zoo, make: Make) -> None:
    zoo.fail("", Status(400))

    with pytest.raises(ExecutionFailed) as caught:
        _run(make(), items=_items(200), judge=JUDGE, concurrency=1, stop_after_errors=5)

    assert "too_many_errors" == caught.value.reason
    assert zoo.total <= 5 + 16


def test_a_cost_says_of_each_judge_which_prices_it_is_made_of_and_of_which_day(make: Make) -> None:
    context = make()
    dated = {**context.models, "exact": replace(context.models["exact"], prices_as_of="2026-11-01")}
    free = replace(context.models["noisy"], input_price=None, output_price=None)
    context = make(models={**dated, "noisy": free})

    facts = _run(context, items=_items(2), judge={**JUDGE, "models": ["exact", "noisy"]}).outcome

    price = {"input_price": 1.0, "output_price": 1.0, "source": "host", "as_of": "2026-11-01"}
    assert {"exact": price, "noisy": None} == facts["usage"]["prices"]
    assert "2026-11-01" in facts["report_markdown"]


def test_a_stop_is_obeyed_within_a_second(zoo: Zoo, make: Make) -> None:
    zoo.fail("", Hang())
    stop = StopFlag()
    ended: list[BaseException] = []
    context = make(stop=stop)

    def work() -> None:
        try:
            _run(context, items=_items(20), judge=JUDGE)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    zoo.wait_for_calls(2)
    stop.set()
    thread.join(1.0)

    assert not thread.is_alive()
    assert [WorkStopped] == [type(error) for error in ended]


def test_every_wrong_field_is_named_at_once(make: Make) -> None:
    said = _problems(
        make(),
        evaluators=[{"kind": "regex"}, {"kind": "nope"}],
        judge={"models": [], "votes": "3", "criterias": []},
    )

    for field in ("evaluators.0", "evaluators.1", "judge.models", "judge.votes", "did you mean 'criteria'?"):
        assert field in said


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "nothing to score with"),
        ({"judge": {"models": ["exakt"]}}, "did you mean 'exact'?"),
        ({"judge": {"models": ["exact"], "votes": 2}}, "votes must be odd"),
        ({"judge": {"models": ["exact"], "votes": 3}}, "votes at temperature 0"),
        ({"judge": {"models": ["exact"], "panel": "cascade"}}, "a cascade needs min_agreement"),
        ({"judge": {**JUDGE, "panel": "weighted"}}, "the weights of a panel are learnt from labels"),
        ({"judge": {**JUDGE, "panel": "weighted", "target_agreement": 0.9}}, "give one"),
        ({"judge": {"models": ["exact"]}, "labels": {"fields": ["a"]}}, "judge.pass_threshold"),
        ({"judge": {"models": ["exact"], "criteria": ["a"], "rubric": [{"id": "b", "q": "c"}]}}, "one thing"),
        ({"evaluators": [{"kind": "exact_match"}, {"kind": "exact_match"}]}, "give one a name"),
        ({"evaluators": [{"kind": "latency", "max_ms": 1, "name": "judge"}]}, "called 'judge'"),
        ({"evaluators": [{"kind": "json_schema_valid", "schema": {"type": 7}}]}, "evaluators.0: cannot be used"),
        ({"evaluators": [{"kind": "exact_match"}], "path": "x"}, "rows from one place"),
    ],
)
def test_what_does_not_hold_together_is_refused_before_a_call(
    zoo: Zoo, make: Make, parameters: dict[str, Any], said: str
) -> None:
    assert said in _problems(make(), **{"items": _items(2), **parameters})
    assert 0 == zoo.total


def test_every_figure_can_be_made_again_from_the_result_files(make: Make) -> None:
    context = make()
    items = [{**item, "expected_output": "fine"} for item in _labelled(_items(40))]
    _run(
        context,
        items=[*items, {"id": "none"}],
        judge={**JUDGE, "models": ["noisy"], "canaries": 2},
        labels={"fields": ["human"]},
        evaluators=[
            {"kind": "text_similarity", "name": "overlap"},
            {"kind": "json_schema_valid", "schema": {"type": "object"}},
            {"kind": "contains", "gate": True},
        ],
        metrics=[{"kind": "rouge_l"}, {"kind": "bleu"}, {"kind": "f1", "output_normalize": "first_word"}],
    )

    said, again = recounted(context.output)

    assert said == again
    assert (41, 2) == (again["total"], again["canaries"]["asked"])


def test_a_summary_that_is_not_true_to_its_lines_is_found(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    context = make()
    _run(context, items=_items(10), judge=JUDGE)
    (context.output / "manifest.json").write_text('{"job_type": "judge_scoring"}')
    path = context.output / "scores.jsonl"

    true = recount.main([str(context.output)])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    wrong = recount.main([str(context.output)])

    assert (0, 1) == (true, wrong)
    assert "total: the summary says 10, the lines say 9" in capsys.readouterr().out


def _cached(context: Context, folder: Path, *, days: float = 7.0, **judge: Any) -> tuple[int, int]:
    """The answers that a job without a state of its own took from earlier ones, and its calls."""
    shutil.rmtree(context.state)
    context.state.mkdir()
    kept = AnswersKept(folder, days)
    facts = _run(replace(context, answers_kept=kept), items=_items(10), judge={**JUDGE, **judge}).outcome
    said, again = recounted(context.output)
    assert said == again
    return facts["usage"]["cached_answers"], facts["usage"]["model_calls"]


def test_a_later_job_pays_for_new_questions_alone(make: Make, tmp_path: Path, zoo: Zoo) -> None:
    rubric = [{"id": f"q{n}", "q": f"Question {n}?"} for n in range(8)]
    edited = [*rubric[:7], {"id": "q7", "q": "Another one?"}]
    each = {"criteria": None, "ask": "each"}
    context, folder = make(), tmp_path / "answers"

    said = [
        _cached(context, folder, rubric=rubric, **each),
        _cached(context, folder, rubric=rubric, **each),
        _cached(context, folder, rubric=edited, **each),
        _cached(context, folder, rubric=rubric, models=["noisy"], **each),
    ]

    assert [(0, 80), (80, 0), (70, 10), (0, 80)] == said
    assert 170 == zoo.total


def test_an_answer_that_is_too_old_is_asked_for_again(make: Make, tmp_path: Path) -> None:
    context, folder = make(), tmp_path / "answers"

    said = [_cached(context, folder), _cached(context, folder, days=1e-9), _cached(context, folder)]

    assert [(0, 10), (0, 10), (10, 0)] == said


def test_anchors_are_never_answered_from_an_earlier_job(make: Make, tmp_path: Path, zoo: Zoo) -> None:
    context, folder = make(), tmp_path / "answers"

    said = [_cached(context, folder, anchors=_anchors(4, 1.0)) for _ in range(2)]

    assert [(0, 14), (10, 4)] == said


def test_a_cache_that_cannot_be_used_is_none(make: Make, tmp_path: Path) -> None:
    context, folder = make(), tmp_path / "answers"
    folder.mkdir()
    (folder / "judge_answers.sqlite").write_bytes(b"no database" * 100)

    assert [(0, 10), (0, 10)] == [_cached(context, folder) for _ in range(2)]
    assert [(0, 10)] == [_cached(context, tmp_path / "answers" / "judge_answers.sqlite")]


ESTIMATED: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "one question": ({}, (16, 16)),
    "two judges, three votes": ({"models": ["exact", "moody"], "votes": 3, "temperature": 0.5}, (96, 96)),
    "each question by itself": ({"criteria": ["It is fine.", "It is kind."], "ask": "each"}, (32, 32)),
    "anchors and canaries": ({"anchors": [{"output": "fine", "score": 1}], "canaries": 5}, (17, 22)),
    "a sample": ({"max_items": 10}, (6, 8)),
    "pairs": ({"mode": "pairwise", "models": ["pairs"]}, (0, 32)),
    "answers that cannot be read": ({"models": ["exact", "dumb"]}, (32, 32)),
}


@pytest.mark.parametrize(("judge", "expected"), ESTIMATED.values(), ids=ESTIMATED.keys())
def test_what_judging_used_lies_within_its_estimate(
    make: Make, judge: dict[str, Any], expected: tuple[int, int]
) -> None:
    """20 rows, four of them without an output."""
    items = [*[{**item, "baseline_output": "poor 3"} for item in _items(16)], *[{"id": f"n{n}"} for n in range(4)]]

    facts = _run(make(), items=items, judge={**JUDGE, **judge}).outcome

    needs, calls = facts["estimate"]["calls"], facts["usage"]["model_calls"]
    assert expected == (needs["low"], needs["typical"])
    assert needs["low"] <= calls <= needs["ceiling"]


def _made_by(model: str, output: str, count: int) -> list[dict[str, Any]]:
    return [{"id": f"{model}{n}", "input": "q", "output": f"{output} {n}", "model": model} for n in range(count)]


def test_a_judge_that_prefers_its_own_family_is_flagged(make: Make) -> None:
    """It takes whatever says 10/10 for fine, which the outputs of its family alone do."""
    items = [
        *_made_by("gullible-large", "10/10 poor", 12),
        *_made_by("gpt-5", "poor", 10),
        *_made_by("gpt-5-mini", "fine", 2),
    ]
    context = make()

    facts = _run(context, items=items, judge={**JUDGE, "models": ["gullible", "exact"]}).outcome

    assert (12, ["gullible"]) == (facts["same_family"]["rows"], list(facts["same_family"]["judges"]))
    said = facts["same_family"]["judges"]["gullible"]
    assert ({"outputs": 12, "mean": 1.0}, {"outputs": 12, "mean": 0.166667}, 0.833333, True) == (
        said["own_family"],
        said["others"],
        said["difference"],
        said["prefers_its_own"],
    )
    assert "| gullible | 12 | 1 | 0.1667 |" in (context.output / "report.md").read_text()


def test_a_judge_may_be_left_out_where_its_own_family_is_judged(make: Make, zoo: Zoo) -> None:
    items = [
        *_made_by("gullible-large", "10/10 poor", 3),
        *_made_by("exact-large", "fine", 1),
        {"id": "x", "output": "fine"},
    ]
    judge = {**JUDGE, "models": ["gullible", "exact"], "same_family": "leave_out"}
    context = make()

    facts = _run(context, items=items, judge=judge).outcome
    said = [[opinion["judge"] for opinion in line["judge"]["opinions"]] for line in _lines(context)]
    alone = _run(make(), items=items[:1] + items[-1:], judge={**judge, "models": ["gullible"]}).outcome

    assert [["exact"]] * 3 + [["gullible"], ["gullible", "exact"]] == said
    assert facts["same_family"] is None
    assert {"same_family": 1} == alone["codes"]


def _anchors(count: int, score: float) -> list[dict[str, Any]]:
    return [{**item, "score": score} for item in _items(count, 1.0)]


def test_judges_that_have_changed_are_told_by_their_anchors(make: Make, zoo: Zoo) -> None:
    context = make()
    steady = _run(context, items=_items(4), judge={**JUDGE, "anchors": _anchors(8, 1.0)}).outcome["drift"]
    made = make()

    changed = _run(made, items=_items(4), judge={**JUDGE, "anchors": _anchors(8, 0.75)}).outcome["drift"]

    assert (8, 1.0, 0.0, False) == tuple(steady[k] for k in ("judged", "mean_now", "difference", "has_drifted"))
    assert (0.75, 0.25, True) == tuple(changed[k] for k in ("mean_then", "difference", "has_drifted"))
    assert 8 == len(_lines(made, "anchors.jsonl"))
    said, again = recounted(made.output)
    assert said == again


def test_no_row_is_judged_by_judges_that_have_changed_when_the_job_wants_that(make: Make, zoo: Zoo) -> None:
    with pytest.raises(ExecutionFailed) as caught:
        _run(make(), items=_items(50), judge={**JUDGE, "anchors": _anchors(8, 0.5), "on_drift": "fail"})

    assert ("judge_drifted", 8) == (caught.value.reason, zoo.total)


@pytest.mark.parametrize(("drift", "least", "most"), [(0.0, 0.0, 0.08), (-0.05, 0.8, 1.0)])
def test_a_drift_of_five_points_is_found_by_a_hundred_anchors(drift: float, least: float, most: float) -> None:
    """200 jobs of 100 anchors, each scored with a deviation of 15 points from one time to the next."""
    draws = random.Random(11)
    jobs = []
    for _ in range(200):
        then = [draws.uniform(0.3, 0.7) for _ in range(100)]
        jobs.append(drift_figures([{"value": t + drift + draws.gauss(0, 0.15), "reference": t} for t in then]))

    share = sum(job is not None and job["has_drifted"] for job in jobs) / len(jobs)

    assert least <= share <= most


def test_only_a_folder_of_a_job_can_be_counted_again(tmp_path: Path) -> None:
    assert 64 == recount.main([str(tmp_path)])
    (tmp_path / "manifest.json").write_text('{"job_type": "word_count"}')
    assert 64 == recount.main([str(tmp_path)])


HOSTILE = [
    ("inference", "summary.json", '{"accuracy": 5, "repetitions": 1}'),
    ("inference", "summary.json", "[" * 100_000),
    ("model_backtesting", "summary.json", '{"task": [], "guards": 1, "rows": 1}'),
    ("prompt_tuning", "candidates.jsonl", ""),
    ("uploaded_outputs_setup", "data_card.json", '"\x1b[2J"'),
    ("\x1b[2J", "summary.json", "{}"),
]


@pytest.mark.parametrize(("job_type", "name", "content"), HOSTILE)
def test_what_is_no_result_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job_type: str, name: str, content: str
) -> None:
    (tmp_path / "summary.json").write_text('{"search": {"objectives": []}, "repetitions": 1, "accuracy": null}')
    (tmp_path / name).write_text(content)
    (tmp_path / "manifest.json").write_text(json.dumps({"job_type": job_type}))

    assert 64 == recount.main([str(tmp_path)])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.timeout(20)
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"job_type": "judge_scoring"}')
    os.mkfifo(tmp_path / "summary.json")

    assert 64 == recount.main([str(tmp_path)])


def test_judges_may_see_a_sample_of_what_the_evaluators_see(zoo: Zoo, make: Make) -> None:
    facts = _run(
        make(),
        items=_items(30),
        judge={**JUDGE, "max_items": 6},
        evaluators=[{"kind": "contains", "value": "fine"}],
    ).outcome

    scored = {name: one["scored"] for name, one in facts["evaluators"].items()}
    assert {"contains": 30, "judge": 6} == scored
    assert (6, {"not_sampled": 24}, 0.2) == (zoo.total, facts["codes"], facts["coverage_rate"])


def test_the_report_says_plainly_what_a_judge_is_worth(make: Make) -> None:
    """One that errs at chance, and one that is right."""
    labels = {"fields": ["human"]}
    evaluators = [{"kind": "contains", "value": "fine", "name": "fine: a-b"}]
    context = make()

    _run(context, items=_labelled(_items(60)), judge=JUDGE, labels=labels, evaluators=evaluators)
    honest, page = ((context.output / name).read_text() for name in ("report.md", "report.html"))
    _run(context, items=_labelled(_items(60)), judge={**JUDGE, "models": ["coin"]}, labels=labels)

    assert "agrees with people beyond chance (kappa = 1.00" in honest
    assert "<svg" in page
    assert "cannot be told from chance" in (context.output / "report.md").read_text()


def test_however_much_is_measured_the_outcome_stays_small(make: Make) -> None:
    """As many evaluators as there may be, and rows that name whatever they like: the record takes 64 KiB."""
    evaluators = [{"kind": "contains", "value": "x", "name": f"{n:02}{'n' * 98}"} for n in range(50)]
    metrics = [{"kind": "accuracy", "name": f"m{n}{'n' * 97}"} for n in range(30)]
    items = [
        {"custom_id": f"{n}{'i' * 5000}", "model": f"{n}{'m' * 5000}", "output": "x", "expected_output": "x"}
        for n in range(120)
    ]

    outcome = _run(make(), items=items, evaluators=evaluators, metrics=metrics).outcome

    assert 120 == result_files.outcome_of(outcome)["scored"]


def test_an_output_that_is_the_one_it_is_compared_with_is_a_tie(make: Make, zoo: Zoo) -> None:
    """Both orders are then one and the same question, which is asked once."""
    item = {"id": "a", "output": "same 1", "baseline_output": "same 1"}

    facts = _run(make(), items=[item], judge={"models": ["pairs"], "mode": "pairwise"}).outcome

    assert (0.5, 1) == (facts["avg_score"], zoo.total)
