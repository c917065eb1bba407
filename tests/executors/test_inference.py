"""The job type `inference`, over a real server: rows in, lines out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from overmind_executors import recount
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.prices import prices_of
from overmind_executors.contract import (
    Context,
    ExecutionFailed,
    InvalidParameters,
    ModelEndpoint,
    Result,
    WorkStopped,
)
from overmind_executors.inference import InferenceExecutor
from overmind_executors.inference.recounting import recounted
from overmind_executors.stopping import StopFlag
from zoo import Completion, Drip, Fault, Hang, Raw, Status, Zoo

Make = Callable[..., Context]
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)
ECHO = {"model": "echo"}
SECRET = "the patient is Jane Roe"
QUOTING = json.dumps({"error": {"message": f"cannot take {SECRET!r}"}}).encode()


def _run(context: Context, **parameters: Any) -> Result:
    executor = InferenceExecutor(policy=QUICK)
    return executor.run(executor.validate({"target": ECHO, **parameters}), context)


def _lines(context: Context, name: str = "output.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.output / name).read_text().splitlines()]


def _items(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "input": f"text {n}"} for n in range(count)]


def _outcomes(context: Context) -> list[str]:
    return [line["x_overmind"]["outcome"] for line in _lines(context)]


def _problems(context: Context, **parameters: Any) -> str:
    with pytest.raises(InvalidParameters) as caught:
        _run(context, **parameters)
    return str(caught.value)


def test_a_line_says_what_was_asked_answered_and_expected(make_context: Make) -> None:
    context = make_context()

    _run(
        context,
        items=[{"id": "a", "input": "two words", "expected_output": "two words"}],
        target={"model": "sentiment"},
    )

    (line,) = _lines(context)
    assert ["id", "custom_id", "response", "error", "x_overmind"] == list(line)
    assert "a" == line["custom_id"]
    assert 200 == line["response"]["status_code"]
    assert line["error"] is None
    about = line["x_overmind"]
    assert ("ok", "I see. Tell me more.", "two words", False) == (
        about["outcome"],
        about["output"],
        about["expected_output"],
        about["correct"],
    )
    assert (0, 0, 2, 5, 1, 0.000052) == (
        about["order"],
        about["repetition"],
        about["prompt_tokens"],
        about["completion_tokens"],
        about["attempts"],
        about["cost_usd"],
    )
    assert 0 < about["latency_ms"] < 5000
    assert about["started_at"].endswith("+00:00")


def test_every_row_has_its_line_in_input_order_with_faults_of_every_kind(zoo: Zoo, make_context: Make) -> None:
    """200 rows, 16 at once, one in six failing: each planted kind is counted exactly."""
    planted = {
        "refused": Completion({"content": None, "refusal": "no"}),
        "content_filter": Completion({"content": None}, "content_filter"),
        "truncated": Completion({"content": "hal"}, "length"),
        "invalid_response": Raw(b"<html>"),
        "bad_request": Status(400),
        "provider_error": Status(500),
        "rate_limited": Status(429),
        "network_error": Raw(b"{", length=100),
        "timeout": Hang(),
    }
    for place, fault in enumerate(planted.values()):
        for number in range(place, 180, 60):
            zoo.fail(f"text {number}", fault)
    for number in range(20, 30):
        zoo.fail(f"text {number}", Status(503), times=1)
    context = make_context(
        models={"echo": ModelEndpoint("echo", zoo.url, "echo", max_concurrency=16)},
    )

    result = _run(context, items=_items(200), concurrency=16, item_timeout_s=0.5)

    lines = _lines(context)
    assert [f"r{n}" for n in range(200)] == [line["custom_id"] for line in lines]
    assert all((line["response"] is None) != (line["error"] is None) for line in lines)
    assert {**dict.fromkeys(planted, 3), "ok": 173} == result.outcome["outcomes"]
    assert {"total": 200, "ok": 176, "failed": 24, "skipped": 0} == result.outcome["counts"]
    assert ("partial", True) == (result.outcome["status"], result.outcome["partial"])
    assert 3 * 3 + 9 * 3 + 3 * 3 + 10 == result.outcome["retries"]
    assert 3 * 10 + 10 == result.outcome["refusals"]
    assert zoo.total == result.outcome["usage"]["model_calls"]
    assert zoo.peak <= 16


def test_the_failed_rows_can_be_submitted_again_as_they_are(zoo: Zoo, make_context: Make) -> None:
    zoo.fail("text 3", Status(400), times=1)
    zoo.fail("text 7", Status(400), times=1)
    rows = b"".join(
        json.dumps({**row, "metadata": {"n": 1}}).encode() + b"\n" for row in [*_items(10), {"id": "no input"}]
    )
    first = make_context(rows + b"broken\n")
    _run(first)
    errors = (first.output / "errors.jsonl").read_bytes()

    again = make_context(errors, state=first.state.parent)
    result = _run(again)

    assert ["r3", "r7"] == [row["id"] for row in map(json.loads, errors.splitlines())]
    assert {"n": 1} == json.loads(errors.splitlines()[0])["metadata"]
    assert {"total": 2, "ok": 2, "failed": 0, "skipped": 0} == result.outcome["counts"]


def test_a_job_without_failures_has_an_empty_errors_file(make_context: Make) -> None:
    context = make_context()
    result = _run(context, items=_items(3))

    assert ("output.jsonl", "errors.jsonl", "summary.json", "report.md", "report.html") == result.files
    assert b"" == (context.output / "errors.jsonl").read_bytes()


def test_the_summary_file_and_the_outcome_say_the_same(make_context: Make) -> None:
    context = make_context()

    result = _run(context, items=_items(3))

    report = (context.output / "report.md").read_text()
    assert {
        **json.loads((context.output / "summary.json").read_text()),
        "report_markdown": report,
    } == result.outcome


def test_every_figure_and_both_reports_can_be_made_again_from_the_lines(make_context: Make, zoo: Zoo) -> None:
    items = [{**row, "expected_output": "text 3"} for row in _items(24)]
    zoo.fail("text 5", Status(400))
    zoo.fail("text 7", Completion({"content": None, "refusal": "<b>no</b>"}))
    zoo.fail("text 9", Completion({"content": "te"}, "length"))
    zoo.fail("text 11", Status(500), times=1)
    zoo.fail("text 13", Status(429), times=2)
    context = make_context()
    _run(
        context,
        items=[*items, {"id": "none"}, "broken"],
        repetitions=2,
        share_equal_rows=True,
        budget={"max_calls": 70},
    )

    said, again = recounted(context.output)

    assert said == again
    assert (51, True, 3) == (again["counts"]["total"], again["retries"] > 0, len(again["error_kinds"]) - 1)


def test_a_figure_that_is_not_true_to_the_lines_is_found(
    make_context: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    context = make_context()
    _run(context, items=_items(5))
    (context.output / "manifest.json").write_text('{"job_type": "inference"}')
    path = context.output / "output.jsonl"

    true = recount.main([str(context.output)])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    wrong = recount.main([str(context.output)])

    assert (0, 1) == (true, wrong)
    assert "outcomes.ok: the summary says 5, the lines say 4" in capsys.readouterr().out


def test_rows_that_cannot_be_asked_about_are_told_apart(make_context: Make, zoo: Zoo) -> None:
    rows = [{"input": "fine"}, {"id": "empty"}, {"input": None}, {"input": [1, 2]}, "text", {"input": {"a": 1}}]
    context = make_context()

    result = _run(context, items=rows)

    missing, invalid = "missing_input_field", "invalid_row"
    assert ["ok", missing, missing, invalid, invalid, "ok"] == _outcomes(context)
    assert {"total": 6, "ok": 2, "failed": 2, "skipped": 2} == result.outcome["counts"]
    assert "line 5: not a JSON object" == _lines(context)[4]["error"]["message"]
    assert ["line-5"] == [e["item"] for e in result.outcome["errors"] if e["item"].startswith("line")]
    assert 2 == zoo.total


def test_openai_batch_lines_keep_their_bodies_but_not_their_model(make_context: Make, zoo: Zoo) -> None:
    body = {"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "stream": True}
    line = {"custom_id": "c-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    context = make_context(json.dumps(line).encode())

    _run(context, target={"model": "echo", "temperature": 1.0, "max_tokens": 9})

    assert [{"model": "echo", "messages": body["messages"], "temperature": 0.5, "max_tokens": 9}] == zoo.bodies
    assert "c-1" == _lines(context)[0]["custom_id"]


def test_sampling_fields_are_passed_on_and_nothing_else(make_context: Make, zoo: Zoo) -> None:
    sampling = {
        "temperature": 0,
        "max_tokens": 5,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["x"],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }

    _run(make_context(), items=[{"input": "hi"}], target={**ECHO, "system_prompt": "be brief", **sampling})

    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert [{"model": "echo", "messages": messages, **sampling}] == zoo.bodies


def test_messages_go_as_they_are_but_for_empty_ones(make_context: Make, zoo: Zoo) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    given = [
        {"role": "system", "content": None},
        {"role": "user", "content": "q"},
        call,
        {"role": "user", "content": "hi"},
    ]

    _run(make_context(), items=[{"input": given}])

    assert [given[1:]] == [body["messages"] for body in zoo.bodies]


INJECTIONS = {
    "a field": ("say {input}", {"input": "hi"}, "say hi"),
    "fields of metadata": ("{lang}: {input}", {"input": "hi", "metadata": {"lang": "de"}}, "de: hi"),
    "an object": ("{input}", {"input": {"a": [1, "é"]}}, '{"a":[1,"é"]}'),
    "a placeholder in a row": ("{input} {secret}", {"input": "{secret}", "secret": "s"}, "{secret} s"),
    "an attribute": ("{input.__class__} {input}", {"input": "hi"}, "{input.__class__} hi"),
    "an index": ("{0} {input[0]} {input}", {"input": "hi"}, "{0} {input[0]} hi"),
    "a sum": ("{{7*7}} {7*7} {input}", {"input": "hi"}, "{{7*7}} {7*7} hi"),
    "a format": ("{input!r:>10} {input}", {"input": "hi"}, "{input!r:>10} hi"),
    "a doubled brace": ("{{input}} is {input}", {"input": "hi"}, "{input} is hi"),
    "JSON": ('{"answer": "{input}"}', {"input": "hi"}, '{"answer": "hi"}'),
    "percent and dollar": ("%s $input ${input}", {"input": "hi"}, "%s $input $hi"),
    "a backslash in a row": ("{input}", {"input": r"\1 \g<0>"}, r"\1 \g<0>"),
}


@pytest.mark.parametrize(("template", "row", "text"), INJECTIONS.values(), ids=INJECTIONS.keys())
def test_a_template_puts_text_in_and_does_nothing_else(
    make_context: Make, zoo: Zoo, template: str, row: dict[str, Any], text: str
) -> None:
    target = {"model": "echo", "messages_template": [{"role": "user", "content": template}]}

    _run(make_context(), items=[row], target=target)

    assert [text] == list(zoo.calls)


def test_a_row_without_a_field_of_the_template_is_skipped(make_context: Make) -> None:
    context = make_context()
    target = {"model": "echo", "messages_template": [{"role": "user", "content": "{input} {topic}"}]}

    _run(context, items=[{"input": "a", "topic": "t"}, {"input": "b"}], target=target)

    assert ["ok", "missing_input_field"] == _outcomes(context)
    assert "line 2 has no field 'topic'" == _lines(context)[1]["error"]["message"]


UNSEEN: dict[str, tuple[str, list[Any], str]] = {
    "misspelled": (
        "{inpt}",
        [{"input": "a", "topic": "t"}, {"input": "b"}],
        "no row has a field 'inpt'; did you mean 'input'?; line 1 has input, topic",
    ),
    "two of them": (
        "{z} {input} {zz} {z}",
        [{"topic": "t", "input": "a"}],
        "'z'; line 1 has topic, input; target.messages_template: no row has a field 'zz'; line 1 has topic, input",
    ),
    "null in every row": (
        "{input} {topic}",
        [{"input": "a", "topic": None}],
        "no row has a field 'topic'; line 1 has input",
    ),
    "behind a broken row": ("{inpt}", [7, {"input": "a"}, {"input": "b"}], "line 2 has input"),
    "names that are text": ("{inpt}", [{"input": "a", "It broke.": 1, "{a}": 1, "y" * 65: 1}], "line 1 has input"),
    "a wide row": ("{inpt}", [{"input": "a", **{f"f{n}": n for n in range(30)}}], ", f17, f18, …"),
}


@pytest.mark.parametrize(("template", "rows", "message"), UNSEEN.values(), ids=UNSEEN.keys())
def test_a_placeholder_that_no_row_can_fill_is_refused_before_any_call(
    make_context: Make, zoo: Zoo, template: str, rows: list[Any], message: str
) -> None:
    target = {"model": "echo", "messages_template": [{"role": "user", "content": template}]}

    problems = _problems(make_context(), items=rows, target=target)

    assert problems.startswith("target.messages_template: no row has a field ")
    assert problems.endswith(message)
    assert 0 == zoo.total


@pytest.mark.parametrize("template", ["{{inpt}} {input}", "{topic} {input}", "{0} {a.b} {input}"])
def test_a_placeholder_that_one_row_fills_or_that_is_none_is_no_mistake(make_context: Make, template: str) -> None:
    target = {"model": "echo", "messages_template": [{"role": "user", "content": template}]}

    result = _run(make_context(), items=[{"input": "a"}, {"input": "b", "topic": "t"}], target=target)

    assert 0 < result.outcome["counts"]["ok"]


def test_a_better_prompt_gets_better_answers(make_context: Make, tmp_path: Path) -> None:
    """The summary's accuracy is that of the lines, for each kind of comparison."""
    rows = [
        {"input": "I love it.", "expected_output": "positive"},
        {"input": "Great.", "expected_output": "positive"},
        {"input": "It broke.", "expected_output": "negative"},
        {"input": "The best joke ever: it broke.", "expected_output": "negative"},
    ]
    found = {}
    for prompt, kind in [
        ("Is it positive or negative? Answer with one word.", "exact"),
        ("Is it positive or negative?", "exact"),
        ("Is it positive or negative?", "label"),
        ("Is it positive or negative?", "contains"),
        ("What do you think?", "label"),
    ]:
        state = tmp_path / f"{len(found)}"
        state.mkdir()
        target = {"model": "sentiment", "system_prompt": prompt}
        result = _run(make_context(state=state), items=rows, target=target, comparison={"kind": kind})
        found[prompt, kind] = result.outcome["accuracy"]["correct"]

    assert [3, 0, 3, 3, 0] == list(found.values())
    accuracy = result.outcome["accuracy"]
    assert (4, 0.0, [0.0, 0.489891]) == (accuracy["compared"], accuracy["accuracy"], accuracy["interval_95"])


def test_repetitions_are_lines_of_their_own(make_context: Make, zoo: Zoo) -> None:
    context = make_context()

    result = _run(context, items=_items(3), repetitions=2)

    lines = _lines(context)
    assert [("r0", 0), ("r0", 1), ("r1", 0), ("r1", 1), ("r2", 0), ("r2", 1)] == [
        (line["custom_id"], line["x_overmind"]["repetition"]) for line in lines
    ]
    assert 6 == len({line["id"] for line in lines})
    assert 6 == zoo.total == result.outcome["counts"]["total"]


@pytest.mark.parametrize("name", ["max_items", "max_rows"])
def test_only_the_first_rows_are_asked_about(make_context: Make, zoo: Zoo, name: str) -> None:
    _run(make_context(), items=_items(10), **{name: 4})

    assert {"text 0", "text 1", "text 2", "text 3"} == set(zoo.calls)


BUDGETS = {
    "calls": ({"max_calls": 5}, 5),
    "tokens": ({"max_tokens": 20}, 5),
    "money": ({"max_usd": 0.0001}, 5),
}


@pytest.mark.parametrize(("budget", "calls"), BUDGETS.values(), ids=BUDGETS.keys())
def test_a_budget_ends_the_calls_and_keeps_what_there_is(
    make_context: Make, zoo: Zoo, budget: dict[str, Any], calls: int
) -> None:
    """One call at a time: two tokens in, two out, so 0.000022 dollars each; the limit is not passed by one call."""
    context = make_context(
        models={"echo": ModelEndpoint("echo", zoo.url, "echo", input_price=1.0, output_price=10.0)}
    )

    result = _run(context, items=_items(20), concurrency=1, budget=budget)

    assert calls == zoo.total
    assert {"total": 20, "ok": 5, "failed": 0, "skipped": 15} == result.outcome["counts"]
    assert "budget_exhausted" == result.outcome["termination_reason"]
    assert ["ok"] * 5 + ["budget_exhausted"] * 15 == _outcomes(context)
    assert [f"r{n}" for n in range(5, 20)] == [row["id"] for row in _lines(context, "errors.jsonl")]


def test_a_budget_is_passed_by_no_more_than_the_calls_in_flight(make_context: Make, zoo: Zoo) -> None:
    _run(make_context(), items=_items(60), concurrency=8, budget={"max_tokens": 40})

    assert 10 <= zoo.total <= 10 + 8


def test_a_budget_is_used_up_by_those_who_wait_for_their_turn(make_context: Make, zoo: Zoo) -> None:
    """64 rows at work, of which the first 40 have a call, though only eight may be under way at first."""
    models = {"echo": ModelEndpoint("echo", zoo.url, "echo", max_concurrency=64)}
    zoo.latency_s = 0.01

    result = _run(make_context(models=models), items=_items(90), concurrency=64, budget={"max_calls": 40})

    assert (40, 40) == (zoo.total, result.outcome["counts"]["ok"])


def test_time_is_a_budget_too(make_context: Make, zoo: Zoo) -> None:
    with pytest.raises(ExecutionFailed) as caught:
        _run(make_context(), items=_items(20), budget={"max_seconds": 1e-6})

    assert "budget_exhausted" == caught.value.reason
    assert 0 == zoo.total


def test_seconds_that_are_used_up_end_the_calls_and_what_was_answered_stays(make_context: Make, zoo: Zoo) -> None:
    """One call at a time: after the limit begins none, however many rows there are."""
    zoo.latency_s = 0.02

    result = _run(make_context(), items=_items(500), concurrency=1, budget={"max_seconds": 0.6})

    assert "budget_exhausted" == result.outcome["termination_reason"]
    assert zoo.total == result.outcome["counts"]["ok"] <= 0.6 / 0.02 + 1
    assert 500 == result.outcome["counts"]["total"]


def test_money_without_a_price_cannot_be_limited(make_context: Make) -> None:
    problems = _problems(make_context(), items=_items(1), budget={"max_usd": 1.0})

    assert "budget.max_usd: the price of model echo is not known on this host" == problems


def test_what_has_no_price_costs_null_and_not_nothing(make_context: Make) -> None:
    result = _run(make_context(), items=_items(2))

    assert result.outcome["usage"]["cost_usd"] is None
    assert ["no price is known for 2 outputs: cost_usd is null, not 0"] == result.outcome["warnings"]


def test_the_costs_of_the_lines_are_the_cost_of_the_job(make_context: Make) -> None:
    context = make_context()

    result = _run(context, items=_items(50), target={"model": "sentiment"})

    lines = _lines(context)
    assert result.outcome["usage"]["cost_usd"] == pytest.approx(
        sum(line["x_overmind"]["cost_usd"] for line in lines)
    )
    assert 50 * 2 == result.outcome["usage"]["prompt_tokens"]
    assert 50 * 5 == result.outcome["usage"]["completion_tokens"]


@pytest.mark.parametrize("count", [2**62, 2**63 - 1, 10**9 + 1, -1, 1.0, 1e300, True, "7", None, [], {}])
def test_a_count_of_tokens_that_is_none_costs_nobody_the_answer(make_context: Make, zoo: Zoo, count: Any) -> None:
    """As if the server had not counted: the rows are answered, their tokens and costs unknown."""
    body = {
        "choices": [{"message": {"content": "hi"}}],
        "usage": {"prompt_tokens": count, "completion_tokens": count},
    }
    zoo.fail("", Raw(json.dumps(body).encode()))
    context = make_context()

    result = _run(context, items=_items(4), target={"model": "sentiment"})

    assert {"total": 4, "ok": 4, "failed": 0, "skipped": 0} == result.outcome["counts"]
    assert (0, None) == (result.outcome["usage"]["total_tokens"], result.outcome["usage"]["cost_usd"])
    assert [None] * 4 == [line["x_overmind"]["prompt_tokens"] for line in _lines(context)]


def test_the_largest_counts_of_tokens_are_summed(make_context: Make, zoo: Zoo) -> None:
    body = {
        "choices": [{"message": {"content": "hi"}}],
        "usage": {"prompt_tokens": 10**9, "completion_tokens": 0},
    }
    zoo.fail("", Raw(json.dumps(body).encode()))

    result = _run(make_context(), items=_items(20))

    assert 20 * 10**9 == result.outcome["usage"]["total_tokens"]


def test_a_published_price_is_used_where_the_host_has_none() -> None:
    """Known to the price list by the provider's address; the figures themselves change with the list."""
    known = prices_of(ModelEndpoint("m", "https://api.openai.com/v1", "gpt-4o-mini"))
    unknown = prices_of(ModelEndpoint("m", "https://api.openai.com/v1", "no-such-model"))
    local = prices_of(ModelEndpoint("m", "http://127.0.0.1:8471/v1", "gpt-4o-mini"))

    assert known is not None
    assert 0 < known[0] < known[1] < 10
    assert unknown is None
    assert local is None


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        (1, {}, "no row was answered: 1 x network_error; model echo was called 4 times"),
        (5, {}, "no row was answered: 5 x network_error; model echo was called 20 times"),
        (5, {"stop_after_errors": 1, "concurrency": 1}, "network_error"),
        (200, {}, "provider_unavailable"),
    ],
)
def test_a_dead_provider_fails_a_job_without_outputs(
    make_context: Make, rows: int, more: dict[str, Any], message: str
) -> None:
    """However few the rows: a handful does not use up the retries of the job. By the model's name, not its URL."""
    models = {"echo": ModelEndpoint("echo", "http://127.0.0.1:9/v1", "echo")}

    with pytest.raises(ExecutionFailed) as caught:
        _run(make_context(models=models), items=_items(rows), **more)

    assert "provider_unavailable" == caught.value.reason
    assert message in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(("code", "reason"), [(500, "provider_unavailable"), (401, "model_auth_error")])
def test_who_waits_for_a_turn_makes_no_call_once_the_provider_is_given_up(
    make_context: Make, zoo: Zoo, code: int, reason: str
) -> None:
    """64 rows at work: each would else make one call more, and those of a dead provider come seconds apart."""
    zoo.fail("", Status(code))
    models = {"echo": ModelEndpoint("echo", zoo.url, "echo", max_concurrency=64)}

    with pytest.raises(ExecutionFailed) as caught:
        _run(make_context(models=models), items=_items(300), concurrency=64, stop_after_errors=0)

    assert reason == caught.value.reason
    assert zoo.total <= 50, "eight at a time, and the thirty retries that a job has"


def test_a_row_that_is_itself_refused_shows_that_the_provider_works(make_context: Make, zoo: Zoo) -> None:
    zoo.fail("text 0", Status(400))
    zoo.fail("text 1", Status(503))

    with pytest.raises(ExecutionFailed) as caught:
        _run(make_context(), items=_items(2))

    assert "no_output" == caught.value.reason


def test_a_provider_that_dies_leaves_what_was_paid_for(make_context: Make, zoo: Zoo) -> None:
    for number in range(10, 200):
        zoo.fail(f"text {number}", Status(503))
    context = make_context()

    result = _run(context, items=_items(200), stop_after_errors=0)

    assert "provider_unavailable" == result.outcome["termination_reason"]
    assert 10 == result.outcome["counts"]["ok"]
    assert zoo.total < 10 + 60, "the others were not asked"
    assert 190 == len(_lines(context, "errors.jsonl"))


def test_a_refused_key_ends_the_job_at_once(make_context: Make, zoo: Zoo) -> None:
    zoo.fail("", Status(401))

    with pytest.raises(ExecutionFailed) as caught:
        _run(make_context(), items=_items(200), concurrency=2)

    assert "model_auth_error" == caught.value.reason
    assert zoo.total <= 4


@pytest.mark.parametrize(
    ("fault", "ending", "calls"),
    [
        (Status(400, body=QUOTING), "bad_request (HTTP status 400)", 2),
        (Status(401, body=QUOTING), "auth_error (HTTP status 401)", 2),
        (Status(500, body=QUOTING), "provider_error (HTTP status 500)", 8),
        (Completion({"content": None, "refusal": SECRET}), "refused (HTTP status 200)", 2),
    ],
)
def test_a_failure_tells_nothing_that_a_server_said(
    make_context: Make, zoo: Zoo, fault: Fault, ending: str, calls: int
) -> None:
    """A server may quote the request in its error, and so a row: that is data, not for logs and statuses."""
    zoo.fail("", fault)
    zoo.close_gate(after=0)
    opener = threading.Thread(target=lambda: (zoo.wait_for_calls(2), zoo.open_gate()))
    opener.start()
    context = make_context()

    with pytest.raises(ExecutionFailed) as caught:
        _run(context, items=[{"input": SECRET}, {"input": f"{SECRET} too"}])
    opener.join()

    assert f"no row was answered: 2 x {ending}; model echo was called {calls} times" == str(caught.value)
    assert [True, True] == [SECRET in line["error"]["message"] for line in _lines(context)]


@pytest.mark.parametrize(("limit", "calls"), [(20, 20 + 16), (0, 100)])
def test_many_errors_in_a_row_end_the_calls(make_context: Make, zoo: Zoo, limit: int, calls: int) -> None:
    """One row at a time: 20 fail in a row; no more are begun by the time that is seen than are handed out ahead."""
    for number in range(100):
        zoo.fail(f"text {number}", Status(400))
    models = {"echo": ModelEndpoint("echo", zoo.url, "echo", max_concurrency=1)}
    context = make_context(models=models)

    with pytest.raises(ExecutionFailed) as caught:
        _run(context, items=_items(100), stop_after_errors=limit)

    assert ("too_many_errors" if limit else "no_output") == caught.value.reason
    assert " x bad_request (HTTP status 400)" in str(caught.value)
    assert min(limit, calls) <= zoo.total <= calls


def test_a_good_row_between_errors_keeps_the_job_going(make_context: Make, zoo: Zoo) -> None:
    for number in range(60):
        if number % 3:
            zoo.fail(f"text {number}", Status(400))

    result = _run(make_context(), items=_items(60), stop_after_errors=3)

    assert {"total": 60, "ok": 20, "failed": 40, "skipped": 0} == result.outcome["counts"]


PROBLEMS: dict[str, tuple[bytes | None, dict[str, Any], str]] = {
    "no rows at all": (None, {}, "items: the job has no rows"),
    "a data set that did not come": (None, {"dataset_id": "d"}, "dataset_id: the job has no rows"),
    "an empty file": (b"", {}, "input: there are no rows"),
    "a header alone": (b"id,input\n", {}, "input: there are no rows"),
    "an empty array": (b"[]", {}, "input: there are no rows"),
    "no row with input": (b'{"id": "a"}\n', {}, "none of 1 rows has a field 'input'"),
    "rows in two places": (b'{"input": "a"}', {"items": [{"input": "b"}]}, "items: the job has an input file too"),
    "mostly broken": (b'{"input": "a"}\nx\ny\n', {}, "2 of 3 rows cannot be read (line 2: expecting value"),
    "an unknown model": (
        b'{"input": "a"}',
        {"target": {"model": "eco"}},
        "did you mean 'echo'?; it offers echo, senti",
    ),
    "no path here": (None, {"path": "rows.jsonl"}, "path: this host lets no job read files by path"),
    "rows that are no batch": (b'{"input": "a"}', {"format": "openai_batch"}, "line 1 is not a line of OpenAI's"),
    "a prompt for whole requests": (
        b'{"custom_id": "a", "body": {"messages": []}}',
        {"target": {"model": "echo", "system_prompt": "x"}},
        "a prompt of the target has no place",
    ),
    "labels without any": (
        b'{"input": "a"}',
        {"comparison": {"kind": "label"}},
        "comparison.labels: name the labels",
    ),
    "an id twice": (b'{"id": 1, "input": "a"}\n{"id": 1, "input": "b"}', {}, "the same id at line 1 and at line 2"),
}


@pytest.mark.parametrize(("given", "parameters", "message"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_job_that_cannot_be_done_is_refused_before_any_call(
    make_context: Make, zoo: Zoo, given: bytes | None, parameters: dict[str, Any], message: str
) -> None:
    assert message in _problems(make_context(given), **parameters)
    assert 0 == zoo.total


BAD_PARAMETERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no target": ({}, ["target: field required"]),
    "types": (
        {"target": ECHO, "concurrency": "5", "repetitions": True, "items": {}, "max_items": 1.5},
        ["concurrency: ", "repetitions: ", "items: ", "max_items: "],
    ),
    "ranges": (
        {
            "target": {**ECHO, "temperature": 3, "max_tokens": 0},
            "repetitions": 2**63,
            "item_timeout_s": float("nan"),
        },
        ["target.temperature: ", "target.max_tokens: ", "repetitions: ", "item_timeout_s: "],
    ),
    "unknown keys": (
        {"target": {**ECHO, "modle": 1}, "budget": {"max_cals": 3}, "comparison": {"kid": 1}, "whatever": 1},
        [
            "target.modle: unknown key; did you mean 'model'?",
            "budget.max_cals: unknown key; did you mean 'max_calls'?",
            "comparison.kid: unknown key; did you mean 'kind'?",
            "whatever: unknown key",
        ],
    ),
    "two sources": ({"target": ECHO, "path": "a", "items": [1]}, ["rows from one place, not from items and path"]),
    "two prompts": (
        {"target": {**ECHO, "system_prompt": "a", "messages_template": [{"role": "user", "content": "b"}]}},
        ["target: give system_prompt or messages_template, not both"],
    ),
    "a template that tells": (
        {"target": {**ECHO, "messages_template": [{"role": "user", "content": "it is {expected_output}"}]}},
        ["target: messages_template shows {expected_output}"],
    ),
    "labels for nothing": (
        {"target": ECHO, "comparison": {"labels": ["a"]}},
        ["comparison: labels have no meaning"],
    ),
    "another kind of target": (
        {"target": {"kind": "robot"}},
        ["target.kind: should be 'model', 'agent', 'command'"],
    ),
}


@pytest.mark.parametrize(("given", "messages"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS.keys())
def test_all_wrong_parameters_are_named_without_their_values(given: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(InvalidParameters) as caught:
        InferenceExecutor().validate(given)

    said = [str(problem) for problem in caught.value.problems]
    assert len(messages) == len(said), said
    for message, line in zip(sorted(messages), sorted(said), strict=True):
        assert line.startswith(message)


def test_a_file_by_path_is_read_within_the_hosts_folders_only(make_context: Make, tmp_path: Path, zoo: Zoo) -> None:
    root, outside = tmp_path / "data", tmp_path / "outside.jsonl"
    (root / "sub").mkdir(parents=True)
    (root / "sub/rows.jsonl").write_text('{"input": "a"}')
    outside.write_text('{"input": "b"}')
    (root / "link.jsonl").symlink_to(outside)
    context = make_context(data_roots=(root,))

    _run(context, path="sub/rows.jsonl")
    _run(context, path=str(root / "sub/rows.jsonl"))

    assert ["a"] == list(zoo.calls)
    for path in (
        "../outside.jsonl",
        str(outside),
        "link.jsonl",
        "sub",
        "absent",
        "/etc/passwd",
        "a\0b",
        "x" * 3000,
    ):
        assert "path: no such file in this host's data_roots" == _problems(context, path=path)


def test_a_stop_is_obeyed_within_a_second_with_no_further_call_and_leaves_the_work_resumable(
    make_context: Make, zoo: Zoo
) -> None:
    """Ten answers, four calls that hang, then a stop; what was answered is not asked for again."""
    zoo.close_gate(after=10)
    stop = StopFlag()
    stopped_at_s: list[float] = []
    watcher = threading.Thread(
        target=lambda: (zoo.wait_for_calls(14), stopped_at_s.append(time.monotonic()), stop.set())
    )
    watcher.start()

    with pytest.raises(WorkStopped):
        _run(make_context(stop=stop), items=_items(40), concurrency=4)
    took_s = time.monotonic() - stopped_at_s[0]
    watcher.join()
    assert took_s <= 1.0
    assert 14 == zoo.total
    zoo.open_gate()
    result = _run(make_context(), items=_items(40), concurrency=4)

    assert {"total": 40, "ok": 40, "failed": 0, "skipped": 0} == result.outcome["counts"]
    assert 10 == result.outcome["resumed_rows"]
    assert zoo.total <= 40 + 4


def test_a_server_that_drips_holds_no_row_for_ever(make_context: Make, zoo: Zoo) -> None:
    zoo.fail("text 1", Drip())
    context = make_context()

    _run(context, items=_items(3), item_timeout_s=0.3)

    assert ["ok", "timeout", "ok"] == _outcomes(context)


def test_progress_counts_the_rows(make_context: Make) -> None:
    told: list[tuple[int, int, str]] = []

    _run(make_context(report=lambda *progress: told.append(progress)), items=_items(5), repetitions=2)

    assert [(step, 10, "rows") for step in range(1, 11)] == told


def test_a_table_with_names_of_its_own_is_asked_about(make_context: Make) -> None:
    """Names that are usual are understood, and the summary says how."""
    context = make_context("question_id;prompt;label\n7;größer;größer\n8;b;c\n".encode("utf-16"))

    outcome = _run(context).outcome

    assert [("7", True), ("8", False)] == [
        (line["custom_id"], line["x_overmind"]["correct"]) for line in _lines(context)
    ]
    assert ("csv", "utf-16-le", ["question_id", "prompt", "label"]) == (
        outcome["source"]["format"],
        outcome["source"]["encoding"],
        [guess["column"] for guess in outcome["source"]["columns"]],
    )


def test_the_columns_of_a_table_may_be_told(make_context: Make) -> None:
    context = make_context(b"n,text,kind\nr1,a,a\n")

    _run(context, mapping={"id": "n", "input": "text", "expected_output": "kind"})

    (line,) = _lines(context)
    assert ("r1", "a", True) == (line["custom_id"], line["x_overmind"]["output"], line["x_overmind"]["correct"])


def test_a_table_whose_columns_could_mean_anything_is_not_guessed_at(make_context: Make) -> None:
    context = make_context(b"text,label\na,b\n")

    assert "mapping.input: which column is the input? it may be 'text'; say so" in _problems(context)


def test_a_parquet_file_is_asked_about(make_context: Make, tmp_path: Path) -> None:
    with duckdb.connect() as database:
        database.sql("SELECT 'r' || i AS id, 'q' || i AS input FROM range(3) t(i)").write_parquet(
            f"{tmp_path}/t.parquet"
        )
    context = make_context(data_roots=(tmp_path,))

    _run(context, path="t.parquet")

    assert ["q0", "q1", "q2"] == [line["x_overmind"]["output"] for line in _lines(context)]
