"""prompt_tuning over real models of the zoo: what is promoted, what is refused, and what it says of both."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from overmind_executors.contract import (
    Context,
    InvalidParameters,
    ModelEndpoint,
    Result,
    WorkStopped,
)
from overmind_executors.rows.rows import Row
from overmind_executors.stopping import StopFlag
from overmind_executors.tuning import PromptTuningExecutor
from overmind_executors.tuning.constraints import Code
from overmind_executors.tuning.recounting import recounted
from overmind_executors.tuning.splitting import Shares, split
from zoo import Zoo
from zoo_judges import RubricJudge
from zoo_writers import Writer, rows, tuned

Make = Callable[..., Context]
PROMPT = "Say right or wrong. worth=0.4"
TWO = [{"role": "system", "content": "Be right."}, {"role": "user", "content": "{input}"}]


@pytest.fixture
def writer() -> Writer:
    return Writer([f"Say right or wrong, and think {n} times. worth=0.95" for n in range(1, 9)])


@pytest.fixture
def zoo(writer: Writer) -> Iterator[Zoo]:
    with Zoo({"tuned": tuned, "writer": writer}) as opened:
        yield opened


def job(number: int = 60, **changes: Any) -> dict[str, Any]:
    """Parameters of a small job."""
    small = {"num_iterations": 2, "candidates_per_iteration": 1, "repeats": 1}
    target = {"model": "tuned", "temperature": 0.0}
    return {
        "items": rows(number), "prompt": PROMPT, "target": target, "analyzer_model": "writer", **small, **changes
    }  # fmt: skip


def run(make_context: Make, zoo: Zoo, parameters: dict[str, Any], **changes: Any) -> Result:
    """The result of a job."""
    models = {
        name: ModelEndpoint(name, zoo.url, name, input_price=1.0, output_price=1.0) for name in ("tuned", "writer")
    }
    executor = PromptTuningExecutor()
    return executor.run(executor.validate(parameters), make_context(**{"models": models, **changes}))


FILES = (
    *("best_prompt.txt", "prompt.diff", "comparison.jsonl", "candidates.jsonl", "summary.json", "report.md"),
    "report.html",
)


def _lines(output: Path) -> list[dict[str, Any]]:
    """The held-out rows, one by one."""
    return [json.loads(line) for line in (output / "comparison.jsonl").read_text().splitlines()]


def test_a_prompt_that_is_better_is_promoted(make_context: Make, zoo: Zoo, tmp_path: Path) -> None:
    found = run(make_context, zoo, job())

    outcome, output = found.outcome, tmp_path / "output"
    assert ("promoted", True, "improved") == (outcome["verdict"], outcome["promoted"], outcome["status"])
    assert "worth=0.95" in outcome["best_agent_code"]
    assert set(FILES) == set(found.files)
    files = {name: (output / name).read_text() for name in FILES}
    assert outcome["best_agent_code"] == files["best_prompt.txt"]
    assert ["-" + PROMPT, "+" + outcome["best_agent_code"]] == files["prompt.diff"].splitlines()[-2:]
    sides = [[line[side][0]["value"] for line in _lines(output)] for side in ("baseline", "candidate")]
    means = [round(100 * sum(values) / 30, 4) for values in sides]
    assert means == [outcome["baseline_score"], outcome["best_score"]], "of the rows that the search never saw"
    assert "<svg" in files["report.html"]
    assert files["report.md"] == outcome["report_markdown"]


@pytest.mark.parametrize("worth", [0.95, 0.4])
def test_its_figures_are_those_of_its_lines_and_another_line_makes_others(
    make_context: Make, zoo: Zoo, writer: Writer, tmp_path: Path, worth: float
) -> None:
    # What some readers take for the end of a line, and is none of JSON's.
    writer.change([f"Say right or wrong,\u2028in\x85style {n}. worth={worth}" for n in range(9)])
    run(make_context, zoo, job())
    output = tmp_path / "output"

    summary, again = recounted(output)

    assert summary == again
    assert {"report.md", "report.html", "prompt.diff", "best_prompt.txt", "changes", "verdict"} <= summary.keys()
    for name in ("report.md", "prompt.diff"):
        (output / name).write_text((output / name).read_text() + "x")
    summary, again = recounted(output)
    assert {"report.md", "prompt.diff"} == {name for name in summary if summary[name] != again[name]}
    lines = (output / "candidates.jsonl").read_text().split("\n")[:-1]
    other = {**json.loads(lines[0]), "values": [1.0] * 15}
    (output / "candidates.jsonl").write_text("\n".join([json.dumps(other), *lines[1:]]))
    summary, again = recounted(output)
    assert summary != again


def test_what_is_no_better_is_not_promoted(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    """Completed all the same: the prompt is the one that came, and nothing is called a gain."""
    writer.change([f"Say right or wrong, in style {n}. worth=0.4" for n in range(9)])

    outcome = run(make_context, zoo, job(num_iterations=4)).outcome

    assert (False, None, 0.0) == (outcome["promoted"], outcome["optimized_version_id"], outcome["improvement"])
    assert ("no_improvement", PROMPT) == (outcome["status"], outcome["best_agent_code"])
    assert outcome["verdict"] in ("inconclusive", "refused", "no_better_candidate")
    assert outcome["changes_summary"].startswith("Not ")


def test_a_candidate_that_was_lucky_in_the_search_ends_inconclusive(
    make_context: Make, zoo: Zoo, writer: Writer
) -> None:
    """All are equally good: the best of them looks better on the rows that chose it, and the test is not fooled."""
    writer.change([f"Say right or wrong, in style {n}. worth=0.4" for n in range(40)])

    outcome = run(make_context, zoo, job(num_iterations=4, candidates_per_iteration=2, seed=1)).outcome

    assert outcome["search"]["best_val_score"] > outcome["search"]["baseline_val_score"]
    assert ("inconclusive", None) == (outcome["verdict"], outcome["optimized_version_id"])
    assert outcome["test"]["rows_needed"] > 30
    assert ("holdout", "discard") == tuple(outcome["iterations"][-1][name] for name in ("iteration_name", "status"))


def test_a_prompt_with_nothing_to_gain_ends_at_the_baseline(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    outcome = run(make_context, zoo, job(prompt="Say right. worth=1.0")).outcome

    assert ("no_headroom", None) == (outcome["verdict"], outcome["test"])
    assert (30, []) == (zoo.total, writer.questions)


@pytest.mark.parametrize(("wrong", "verdict"), [(1, "no_headroom"), (2, "no_better_candidate")])
def test_with_99_right_of_100_there_is_nothing_to_gain_and_with_98_it_is_searched(
    make_context: Make, zoo: Zoo, wrong: int, verdict: str
) -> None:
    """A hundred rows to learn from and to choose by; the prompt fails on *wrong* of them."""
    items = rows(104)
    parts = split(
        [Row(n, n, e["id"], e, e["input"], "right") for n, e in enumerate(items)], Shares(most_held_out=4), 0
    )
    failing = {case.row.input for case in parts.validation[:wrong]}
    zoo.models["tuned"] = lambda messages: (
        "wrong" if messages[-1]["content"] in failing and "worth=1.0" in messages[0]["content"] else "right"
    )

    outcome = run(make_context, zoo, job(items=items, prompt="Say right. worth=1.0", max_holdout=4)).outcome

    assert (100, verdict) == (zoo.total, outcome["verdict"])


def test_a_candidate_is_written_from_rows_that_went_wrong_however_few_they_are(
    make_context: Make, zoo: Zoo, writer: Writer
) -> None:
    """Two of 92: each candidate is shown one of them; of four rows drawn at random eleven of twelve have none."""
    wrong = [row["input"] for row in rows(100) if row["id"] in ("r3", "r41")]
    zoo.models["tuned"] = lambda messages: "wrong" if messages[-1]["content"] in wrong else "right"

    shares = {"holdout_share": 0.04, "validation_share": 0.04}
    outcome = run(make_context, zoo, job(100, num_iterations=4, **shares)).outcome

    assert 92 == outcome["data_sources_used"]["train"]
    assert [True] * 4 == [any(text in question for text in wrong) for question in writer.questions]


def test_four_candidates_are_two_of_each_of_two_parents(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    outcome = run(make_context, zoo, job(num_iterations=3, candidates_per_iteration=4)).outcome

    steps = [one for one in _candidates(make_context().output) if one["name"] != "baseline"]
    of = Counter((one["name"][:3], one["parent"]) for one in steps)
    assert 12 >= sum(of.values()) == sum(outcome["search"]["candidates"].values()) > 4
    assert {0} == {count % 2 for count in of.values()}


def _candidates(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "candidates.jsonl").read_text().splitlines()]


def test_without_the_test_nothing_is_promoted(make_context: Make, zoo: Zoo) -> None:
    outcome = run(make_context, zoo, job(run_test_after_optimization=False)).outcome

    assert ("untested", False, None) == (outcome["verdict"], outcome["promoted"], outcome["test_run_id"])
    assert "validation" == outcome["scored_on"]


def test_the_search_never_sees_a_held_out_row(make_context: Make, zoo: Zoo, writer: Writer, tmp_path: Path) -> None:
    """Neither is its model asked about one before the test is registered, nor is one shown to the writer."""
    run(make_context, zoo, job(num_iterations=4))

    lines = [json.loads(line) for line in (tmp_path / "output/comparison.jsonl").read_text().splitlines()]
    held_out = {line["item_id"] for line in lines}
    inputs = {row["input"] for row in rows(60) if row["id"] in held_out}
    assert 30 == len(inputs)
    assert not [text for text in writer.questions if any(given in text for given in inputs)]
    asked = [body["messages"][-1]["content"] for body in zoo.bodies if body["model"] == "tuned"]
    first = min(place for place, text in enumerate(asked) if text in inputs)
    assert inputs == set(asked[first:])


SOURCES = {
    "use_labels": ("human_label", "canary-label", "human_labels_count"),
    "use_customer_feedback": ("customer_feedback", "canary-customer", "customer_feedback_count"),
    "use_recorded_scores": (
        "feedback_score", {"correctness": 0.25, "correctness_reason": "canary-score"}, "recorded_scores_count"
    ),
}  # fmt: skip


@pytest.mark.parametrize("off", [*SOURCES, None])
def test_a_source_of_feedback_is_shown_and_counted_or_stands_in_no_question_at_all(
    make_context: Make, zoo: Zoo, writer: Writer, off: str | None
) -> None:
    """Looked for in all that the writer was sent, not in what we think that it was sent."""
    fields = {name: value for name, value, _ in SOURCES.values()}

    outcome = run(
        make_context, zoo, job(items=rows(60, **fields), num_iterations=4, **({off: False} if off else {}))
    ).outcome

    used = outcome["data_sources_used"]
    sent = json.dumps([body["messages"] for body in zoo.bodies if body["model"] == "writer"])
    for switch, (name, _, count) in SOURCES.items():
        canary = str(name).replace("human_", "").replace("_feedback", "").replace("feedback_", "")
        assert (switch != off) is (f"canary-{canary}" in sent) is (used[count] > 0), switch
    shown = {text.split("input: ")[1].split("\n")[0] for q in writer.questions for text in q.split("Example ")[1:]}
    assert len(shown) == max(used[count] for _, _, count in SOURCES.values())
    assert 0 < used["failures_count"] <= len(shown)


def test_what_a_job_had_made_of_recorded_traffic_is_no_row(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    """Else a search would learn from its own attempts; nothing of them is asked about or shown."""
    of = [
        {"operation": "prompt_tuning"},
        {"operation": "backtest:m"},
        {"metadata": {"operation": "judge_scoring"}},
        {"metadata_attributes": {"operation": "prompt_tuning"}},
    ]
    row = {"input": "canary-replay, again and once more", "expected_output": "right"}
    replays = [{"id": f"x{n}", **row, **told} for n, told in enumerate(of)]
    kept = [{**row, "operation": "chat"} for row in rows(60)]

    outcome = run(make_context, zoo, job(items=[*kept, *replays])).outcome

    assert 60 == outcome["data_sources_used"]["rows_total"]
    assert "canary-replay" not in json.dumps(zoo.bodies)


def test_where_nothing_says_what_an_output_is_worth_nothing_is_called(make_context: Make, zoo: Zoo) -> None:
    items = [{key: value for key, value in row.items() if key != "expected_output"} for row in rows(60)]

    with pytest.raises(InvalidParameters, match="nothing to score with: no row has an expected_output"):
        run(make_context, zoo, job(items=items))

    assert 0 == zoo.total


ANSWERS = [f"this is what row number {n} hopes for" for n in range(60)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("No variable any more. worth=0.9", "INVALID_TEMPLATE"),
        ("For {reader}: somebody else's words. worth=0.9", "FIXED_REGION"),
        (f"For {{reader}}: keep this. {' '.join(ANSWERS)} worth=0.9", "LEAKAGE"),
    ],
)
def test_a_candidate_that_breaks_a_rule_is_never_tried(
    make_context: Make, zoo: Zoo, writer: Writer, text: str, code: str
) -> None:
    """Its writer is told once what is wrong, and writes it again."""
    writer.change([text])
    items = [{**row, "expected_output": ANSWERS[n]} for n, row in enumerate(rows(60))]

    outcome = run(
        make_context, zoo, job(items=items, prompt="For {reader}: keep this. worth=0.4", fixed=["keep this."])
    ).outcome

    assert {code: 2} == outcome["search"]["candidates"]
    assert not [body for body in zoo.bodies if body["messages"][0]["content"] == text]
    assert ["was refused" in question for question in writer.questions] == [False, True, False, True]


@pytest.mark.parametrize("most", [106, 115])
def test_the_budget_is_never_exceeded(make_context: Make, zoo: Zoo, most: int) -> None:
    """30 calls for the baseline, 60 for the test; what is between is for the search."""
    outcome = run(make_context, zoo, job(num_iterations=9, budget={"max_calls": most})).outcome

    assert zoo.total <= most
    assert (True, "budget_exhausted") == (outcome["partial"], outcome["termination_reason"])
    assert (outcome["test"] is not None) is (outcome["search"]["best"] != "baseline")


@pytest.mark.parametrize(
    ("budget", "hosts", "problem"),
    [
        (
            {"max_calls": 105},
            {},
            "budget.max_calls: the baseline, a candidate and the test take at least 106, more",
        ),
        ({}, {"max_calls": 5}, "than 5; nothing was called"),
        ({"max_tokens": 500}, {}, "budget.max_tokens: the baseline"),
        ({"max_usd": 0.0005}, {}, "budget.max_usd: the baseline"),
    ],
)
def test_a_budget_that_cannot_hold_the_test_is_refused_before_any_call(
    make_context: Make, zoo: Zoo, budget: dict[str, Any], hosts: dict[str, float], problem: str
) -> None:
    """A search without its test is worth nothing, so it is not paid for."""
    items = [{**row, "input": f"{row['input']} {'and so on ' * 20}"} for row in rows(60)]

    with pytest.raises(InvalidParameters) as caught:
        run(make_context, zoo, job(items=items, budget=budget), spend_limits=hosts)

    assert problem in str(caught.value)
    assert 0 == zoo.total


@pytest.mark.parametrize("search", ["gepa", "best_of_n", "random_rewrite"])
@pytest.mark.parametrize("worth", [0.3, 0.5, 0.95])
def test_what_a_job_used_lies_within_what_was_expected(
    make_context: Make, zoo: Zoo, writer: Writer, search: str, worth: float
) -> None:
    """Low when nothing is found, typical when it is; with limits of tokens the ceilings are known, too."""
    writer.change([f"Say right or wrong, in style {n}. worth={worth}" for n in range(20)])
    target = {"model": "tuned", "temperature": 0.0, "max_tokens": 10}

    outcome = run(
        make_context,
        zoo,
        job(search=search, num_iterations=3, candidates_per_iteration=2, target=target, analyzer_max_tokens=200),
    ).outcome

    used, expected = outcome["usage"], outcome["estimate"]
    for name, what in (("calls", "model_calls"), ("tokens", "tokens"), ("cost_usd", "cost_usd")):
        assert expected[name]["low"] <= used[what] <= expected[name]["ceiling"], name
    assert 30 == expected["calls"]["low"]
    price = {"input_price": 1.0, "output_price": 1.0, "source": "host", "as_of": None}
    assert {"tuned": price, "writer": price} == used["prices"]


def test_where_a_budget_says_nothing_a_job_is_held_to_what_it_said_it_takes_at_most(
    make_context: Make, zoo: Zoo
) -> None:
    """The model says six thousand words, whatever `max_tokens` it is sent: a search with its test does not fit."""
    zoo.models["tuned"] = lambda messages: f"{tuned(messages)} " * 6000
    contains = {"kind": "contains", "value": "right"}
    target = {"model": "tuned", "temperature": 0.0, "max_tokens": 10}

    outcome = run(make_context, zoo, job(target=target, evaluators=[contains], budget={"max_usd": 9.0})).outcome

    most = outcome["estimate"]["tokens"]["ceiling"]
    assert {"max_tokens": most, "max_usd": 9.0} == outcome["budget"]
    assert most <= 20 * outcome["estimate"]["tokens"]["typical"]
    assert (True, "budget_exhausted") == (outcome["partial"], outcome["termination_reason"])
    assert 30 * 6000 < outcome["usage"]["tokens"] <= most


def test_where_nothing_bounds_an_answer_there_is_no_limit_that_nobody_set(make_context: Make, zoo: Zoo) -> None:
    outcome = run(make_context, zoo, job(num_iterations=1)).outcome

    assert ({}, None) == (outcome["budget"], outcome["estimate"]["tokens"]["ceiling"])


def test_where_nothing_ever_scores_the_search_ends_early_and_says_so(
    make_context: Make, zoo: Zoo, writer: Writer
) -> None:
    """More of the same would find nothing, and costs as much as a search that does."""
    writer.change([f"Say right or wrong, in style {n}. worth=0.0" for n in range(99)])

    outcome = run(make_context, zoo, job(prompt="Say right. worth=0.0", num_iterations=50)).outcome

    assert ("no_headroom", "hopeless") == (outcome["verdict"], outcome["termination_reason"])
    assert 4 == len(writer.questions)
    assert "neither the prompt nor any of the first 4 candidates scored" in outcome["changes_summary"]


def test_every_iteration_says_how_sure_its_score_is_and_what_it_took(make_context: Make, zoo: Zoo) -> None:
    told: list[dict[str, Any]] = []

    outcome = run(make_context, zoo, job(), tell_iteration=told.append).outcome

    first, second = (step["dimension_scores"] for step in outcome["iterations"][:2])
    assert outcome["iterations"] == told
    codes = {one["dimension_scores"]["reason_code"]: one for one in told}
    assert {"KEEP_BETTER"} <= codes.keys() <= {code.value for code in Code}
    assert [] == [code for code, one in codes.items() if not one["description"].startswith(code)]
    assert [Code(code).keeps for code in codes] == [one["status"] == "keep" for one in codes.values()]
    assert (None, 15) == (first["delta_vs_baseline"], first["n"])
    assert second["ci95"][0] <= outcome["iterations"][1]["avg_score"] <= second["ci95"][1]
    gain = outcome["iterations"][1]["avg_score"] - outcome["iterations"][0]["avg_score"]
    assert abs(gain - second["delta_vs_baseline"]["mean"]) < 0.01
    assert second["usd"] > 0
    assert 0 < second["p50_ms"] <= second["p95_ms"]


def test_progress_says_what_was_spent_and_how_long_it_will_take(make_context: Make, zoo: Zoo) -> None:
    told: list[tuple[int, int, str]] = []
    paces: list[tuple[float | None, float | None]] = []

    run(make_context, zoo, job(), report=lambda *of: told.append(of), report_pace=lambda *of: paces.append(of))

    steps, totals = [step for step, _, _ in told], {total for _, total, _ in told}
    assert (sorted(steps), {6}, 6) == (steps, totals, steps[-1])
    names = [name for _, _, name in told]
    assert "validate the inputs" == names[0]
    spoken = re.compile(r"iteration 1 of 2 \(\d+ calls, \$\d\.\d{4}, about \d+ s left\)")
    assert [name for name in names if spoken.fullmatch(name)]
    assert max(map(len, names)) <= 100
    spent = [usd for usd, _ in paces if usd is not None]
    assert (True, sorted(spent)) == (len(paces) == len(told), spent)
    assert max(eta_s for _, eta_s in paces if eta_s is not None) > 0


def test_drafts_that_people_wrote_are_tried_first_and_cost_no_writer(
    make_context: Make, zoo: Zoo, writer: Writer
) -> None:
    """They are candidates like any other: checked, screened, tested."""
    drafts = ["For {nobody}. worth=1.0", "Say it. worth=0.2", "Say it well. worth=0.95"]

    outcome = run(make_context, zoo, job(drafts=drafts, num_iterations=4)).outcome

    steps = {step["iteration_name"]: step["agent_code"] for step in outcome["iterations"]}
    assert ("promoted", drafts[2]) == (outcome["verdict"], outcome["best_agent_code"])
    assert {"INVALID_TEMPLATE": 1}.items() <= outcome["search"]["candidates"].items()
    assert drafts[2] == steps["i03c1"]
    assert len(writer.questions) <= 1
    assert outcome["estimate"]["calls"]["low"] <= zoo.total <= outcome["estimate"]["calls"]["ceiling"]


def test_drafts_alone_need_no_writer(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    run(make_context, zoo, job(drafts=["Say it well. worth=0.95"], num_iterations=1))

    assert [] == writer.questions


def test_a_cancel_ends_it_with_no_further_call(make_context: Make, zoo: Zoo) -> None:
    stop = StopFlag()
    zoo.close_gate(after=20)
    context_changes = {"stop": stop}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, make_context, zoo, job(), **context_changes)
        zoo.wait_for_calls(21)
        stop.set()
        zoo.open_gate()

        with pytest.raises(WorkStopped):
            running.result(20)

    assert zoo.total <= 20 + 4 + 4


@pytest.mark.parametrize("search", ["gepa", "best_of_n", "random_rewrite"])
def test_run_again_over_its_journal_it_pays_nothing_and_ends_the_same(
    make_context: Make, zoo: Zoo, writer: Writer, tmp_path: Path, search: str
) -> None:
    """Several candidates, several texts; everything but the count of steps that were taken again is the same."""
    writer.change([f"Say right or wrong, in style {n}. worth={0.4 + 0.05 * n:.2f}" for n in range(7)])
    parameters = job(search=search, num_iterations=4, candidates_per_iteration=2)

    first = run(make_context, zoo, parameters)
    paid = zoo.total
    files = {name: (tmp_path / "output" / name).read_bytes() for name in first.files if "report" not in name}
    again = run(make_context, zoo, parameters)

    assert paid == zoo.total
    assert {**first.outcome, "resumed_steps": 0} == {**again.outcome, "resumed_steps": 0}
    assert again.outcome["resumed_steps"] > 0
    assert {name for name in files if files[name] != (tmp_path / "output" / name).read_bytes()} <= {"summary.json"}


def test_unknown_models_are_all_named_at_once(make_context: Make, zoo: Zoo) -> None:
    with pytest.raises(InvalidParameters) as caught:
        run(make_context, zoo, job(target={"model": "tunde"}, analyzer_model="wirter"))

    assert ["target.model", "analyzer_model"] == [problem.field for problem in caught.value.problems]
    assert 0 == zoo.total


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": []}, "prompt"),
        ({"tune": ["sistem"]}, "tune names no text"),
        ({"tune": ["prompt", "prompt"]}, "tune names 'prompt' twice"),
        ({"fixed": ["not there"]}, "fixed span"),
        ({"target": {"model": "tuned", "system_prompt": "x"}}, "stands in prompt"),
        ({"holdout_share": 0.7, "validation_share": 0.4}, "leave no rows"),
        ({"alpha": 0.5}, "alpha"),
        ({"alpha": 1e-7}, "alpha"),
        ({"iterations": 3}, "iterations: unknown key"),
        ({"drafts": ["x"], "prompt": TWO, "tune": ["system", "user"]}, "drafts are for one text; tune names 2"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameters, match=field):
        PromptTuningExecutor().validate(job(**changes))


@pytest.mark.parametrize("field", ["num_iterations", "candidates_per_iteration"])
@pytest.mark.parametrize("count", [0, -1, 10_000, 2**63 - 1, True, "5", 1.5, float("nan")])
def test_counts_that_have_no_end_are_refused(field: str, count: object) -> None:
    with pytest.raises(InvalidParameters, match=field):
        PromptTuningExecutor().validate(job(**{field: count}))


def test_a_variable_that_no_row_has_is_named_before_any_call(make_context: Make, zoo: Zoo) -> None:
    messages = [{"role": "system", "content": "Be right."}, {"role": "user", "content": "{inptu}"}]

    with pytest.raises(InvalidParameters) as caught:
        run(make_context, zoo, job(prompt=messages))

    assert "prompt: no row has a field 'inptu'; did you mean 'input'?" in str(caught.value)
    assert 0 == zoo.total


def test_of_several_messages_only_the_systems_changes(make_context: Make, zoo: Zoo) -> None:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": "It is: {input}"}]

    outcome = run(make_context, zoo, job(prompt=messages)).outcome

    system, user = json.loads(outcome["best_agent_code"])
    assert (True, messages[1]) == (outcome["promoted"], user)
    assert "worth=0.95" in system["content"]


def test_a_judge_decides_and_what_it_says_reaches_who_writes_and_who_reads(
    make_context: Make, zoo: Zoo, writer: Writer, tmp_path: Path
) -> None:
    """All three models are paid from one purse, and their calls are in one journal."""
    zoo.models["tuned"] = lambda messages: "fine" if tuned(messages) == "right" else "poor"
    zoo.models["judge"] = RubricJudge("judge")
    models = {name: ModelEndpoint(name, zoo.url, name) for name in ("tuned", "writer", "judge")}

    outcome = run(
        make_context, zoo, job(judge={"models": ["judge"], "criteria": ["It is fine."]}), models=models
    ).outcome

    assert (True, zoo.total) == (outcome["promoted"], outcome["usage"]["model_calls"])
    assert "judge: 0.00" in writer.questions[0]
    assert "judge says no to rule-1: so" in writer.questions[0]
    assert outcome["data_sources_used"]["judge_scored_count"] > 0
    report = (tmp_path / "output/report.md").read_text().replace("\\", "")
    assert "judge says no to rule-1: so" in report.partition("Gains, the greatest first")[2].partition("## ")[0]


def test_the_report_says_which_rows_changed_and_how_much_the_search_flattered(
    make_context: Make, zoo: Zoo, tmp_path: Path
) -> None:
    """Both are made of the lines of the files, row by row."""
    outcome = run(make_context, zoo, job(num_iterations=4)).outcome

    lines = [json.loads(line) for line in (tmp_path / "output/comparison.jsonl").read_text().splitlines()]
    differences = {line["item_id"]: line["candidate"][0]["value"] - line["baseline"][0]["value"] for line in lines}
    told = (tmp_path / "output/report.md").read_text().partition("## Rows that changed")[2].partition("\n## ")[0]
    cells = [
        line.split("|") for line in told.splitlines() if line.startswith("| r") and not line.startswith("| row ")
    ]
    shown = {cell[1].strip(): float(cell[2]) for cell in cells}
    losses, gains = ({k for k, v in differences.items() if v * sign > 0} for sign in (-1, 1))
    assert (losses, min(20, len(gains))) == (
        {k for k, v in shown.items() if v < 0},
        sum(v > 0 for v in shown.values()),
    )
    assert shown.items() <= differences.items()
    search, gap = outcome["search"], outcome["gap"]
    assert gap["validation_gain"] == round(search["best_val_score"] - search["baseline_val_score"], 4)
    assert gap["holdout_gain"] == outcome["improvement"]
    assert gap["gap"] == round(gap["validation_gain"] - gap["holdout_gain"], 4)


def test_the_summary_names_every_text_that_changed(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    """Both texts are tuned; each step stands in a line, with the rows that it fixed and broke."""
    messages = [{"role": "system", "content": "worth=0.3"}, {"role": "user", "content": "It is: {input}"}]
    writer.change([f"It is, in style {n}: {{input}}" if n % 2 else f"Think {n}. worth=0.9{n}" for n in range(8)])

    outcome = run(
        make_context, zoo, job(prompt=messages, tune=["system", "user"], num_iterations=6, search="best_of_n")
    ).outcome

    made = {message["role"]: message["content"] for message in json.loads(outcome["best_agent_code"])}
    changed = [name for name, text in made.items() if text not in [message["content"] for message in messages]]
    first, names, *steps = outcome["changes_summary"].splitlines()
    assert (True, f"Changed: {', '.join(changed)}.") == (first.startswith("Promoted: "), names)
    assert [one["name"] for one in outcome["changes"]] == [step.partition(":")[0] for step in steps]
    fixed = outcome["changes"][0]["fixed"]
    assert ", ".join(fixed["first"][:4]) in steps[0]


def test_a_random_rewriting_is_shown_no_row_and_no_score(make_context: Make, zoo: Zoo, writer: Writer) -> None:
    outcome = run(make_context, zoo, job(search="random_rewrite", num_iterations=3)).outcome

    inputs = [row["input"] for row in rows(60)]
    assert 3 == len(writer.questions)
    assert not [text for text in writer.questions if "score" in text or any(given in text for given in inputs)]
    assert 0 == outcome["data_sources_used"]["failures_count"]


@pytest.mark.parametrize(
    ("constraints", "verdict"),
    [({"max_prompt_tokens": 500}, "promoted"), ({"max_prompt_tokens": 15}, "no_better_candidate")],
)
def test_a_candidate_that_is_too_long_is_not_named_however_good_it_is(
    make_context: Make, zoo: Zoo, constraints: dict[str, float], verdict: str
) -> None:
    """A request of the prompt has 14 tokens, one of a candidate 18; the held-out rows stay sealed then."""
    outcome = run(make_context, zoo, job(constraints=constraints)).outcome

    assert (verdict, verdict == "promoted") == (outcome["verdict"], outcome["promoted"])
    assert ("DISCARD_CONSTRAINT" in outcome["search"]["candidates"]) is not outcome["promoted"]
    assert (outcome["registration"] or {"constraints": None})["constraints"] == (
        constraints if outcome["promoted"] else None
    )
    said = outcome["changes_summary"]
    assert outcome["promoted"] is not ("no candidate that may win scored higher" in said)
    assert outcome["promoted"] is not ("prompt tokens, more than 15" in said)


def test_a_limit_of_money_needs_a_price(make_context: Make, zoo: Zoo) -> None:
    models = {name: ModelEndpoint(name, zoo.url, name) for name in ("tuned", "writer")}

    with pytest.raises(InvalidParameters, match=r"constraints.max_usd_per_request: the price of model tuned"):
        run(make_context, zoo, job(constraints={"max_usd_per_request": 1.0}), models=models)

    assert 0 == zoo.total
