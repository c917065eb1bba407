"""What a job will need, what it is refused for, and one call for equal rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import Context, InvalidParameters, ModelEndpoint, Result
from overmind_executors.inference import InferenceExecutor
from overmind_executors.judge_scoring import JudgeScoringExecutor
from zoo import Status, Zoo
from zoo_judges import PairJudge, RubricJudge

Make = Callable[..., Context]
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002, budget=30)
PRICED = {"model": "sentiment", "temperature": 0, "max_tokens": 10}


def _run(context: Context, **parameters: Any) -> Result:
    executor = InferenceExecutor(policy=QUICK)
    return executor.run(executor.validate({"target": PRICED, **parameters}), context)


def _items(*texts: str) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "input": text} for n, text in enumerate(texts)]


def _lines(context: Context) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.output / "output.jsonl").read_text().splitlines()]


def test_what_a_job_used_lies_within_its_estimate(zoo: Zoo, make_context: Make) -> None:
    """A hundred texts of different lengths, one in ten refused once."""
    texts = [f"text {n} " + "word " * (n % 17) for n in range(100)]
    for text in texts[::10]:
        zoo.fail(text, Status(500), times=1)

    outcome = _run(make_context(), items=_items(*texts), concurrency=4).outcome

    usage, estimate = outcome["usage"], outcome["estimate"]
    assert {"low": 100, "typical": 100, "ceiling": 180} == estimate["calls"]
    for name, used in (("calls", "model_calls"), ("tokens", "total_tokens"), ("cost_usd", "cost_usd")):
        assert estimate[name]["low"] <= usage[used] <= estimate[name]["ceiling"], name


def _held(outcome: Mapping[str, Any]) -> bool:
    """Whether calls, tokens and dollars lie between low and ceiling."""
    usage, estimate = outcome["usage"], outcome["estimate"]
    pairs = (("calls", "model_calls"), ("tokens", "total_tokens"), ("cost_usd", "cost_usd"))
    return all(estimate[name]["low"] <= usage[used] <= estimate[name]["ceiling"] for name, used in pairs)


def _of_its_own(context: Context, folder: Path) -> Context:
    """*context* with folders of its own, so that a hundred jobs wait for the disk together."""
    output, state = folder / "output", folder / "state"
    output.mkdir(parents=True)
    state.mkdir()
    return replace(context, output=output, state=state)


def test_of_a_hundred_jobs_whose_calls_fail_95_use_what_was_estimated(
    zoo: Zoo, make_context: Make, tmp_path: Path
) -> None:
    """Texts of any length, and every third of them fails once or twice, in ways that are tried again."""

    def is_held(job: int) -> bool:
        draw = random.Random(job)
        texts = [f"job {job} text {n} " + "word " * draw.randrange(60) for n in range(draw.randrange(1, 5))]
        for text in texts:
            if draw.random() < 0.33:
                zoo.fail(text, draw.choice([Status(500), Status(429)]), times=draw.randrange(1, 3))
        context = _of_its_own(make_context(), tmp_path / str(job))
        return _held(_run(context, items=_items(*texts), concurrency=draw.randrange(1, 5)).outcome)

    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(is_held, range(100)))

    assert held.count(True) >= 95


MANNERS: tuple[dict[str, Any], ...] = (
    {},
    {"models": ["judge", "second"], "votes": 3, "temperature": 1.0},
    {"models": ["moody", "judge"], "panel": "cascade", "votes": 3, "temperature": 1.0, "min_agreement": 1.0},
    {"criteria": ["It is fine.", "It is kind.", "It is short."], "ask": "each"},
    {
        "criteria": None,
        "rubric": [{"id": "a", "q": "Is it?"}, {"id": "b", "q": "Is it so?", "field": "b"}],
        "ask": "each",
    },
    {"answer": "word"},
    {"canaries": 3, "anchors": [{"output": "fine, and known for long", "score": 1}]},
    {"models": ["dumb", "judge"]},
    {"max_items": 2},
    {"mode": "pairwise", "models": ["pairs"]},
)


def test_of_a_hundred_jobs_of_judges_95_use_what_was_estimated(make_context: Make, tmp_path: Path) -> None:
    """Of all manners of asking; some outputs are absent, some calls fail, some judges write no JSON."""
    judges: dict[str, Any] = {
        "judge": RubricJudge(),
        "second": RubricJudge("second"),
        "moody": RubricJudge("moody", mood=0.3),
        "dumb": lambda _messages: "I see. " * 40,
        "pairs": PairJudge(),
    }

    def is_held(job: int) -> bool:
        draw = random.Random(job)
        said = {"models": ["judge"], "criteria": ["It is fine."], "max_tokens": 300, **MANNERS[job % len(MANNERS)]}
        items = [
            {"id": f"r{n}", "input": "q " * draw.randrange(40), "output": f"{n} fine " * draw.randrange(1, 40)}
            for n in range(draw.randrange(1, 4))
        ]
        items = [{**item, "baseline_output": "7 poor"} for item in items] + [{"id": "none"}] * draw.randrange(2)
        with Zoo(judges) as zoo:
            zoo.fail("", draw.choice([Status(500), Status(429)]), times=draw.randrange(1, 4))
            models = {
                name: ModelEndpoint(name, zoo.url, name, input_price=1.0, output_price=3.0) for name in judges
            }
            context = replace(_of_its_own(make_context(), tmp_path / str(job)), models=models)
            executor = JudgeScoringExecutor(policy=QUICK)
            task = executor.validate({"items": items, "judge": said, "concurrency": draw.randrange(1, 5)})
            return _held(executor.run(task, context).outcome)

    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(is_held, range(100)))

    assert held.count(True) >= 95


def test_without_a_limit_of_tokens_nothing_bounds_the_cost(make_context: Make) -> None:
    outcome = _run(make_context(), items=_items("a"), target={"model": "sentiment"}).outcome

    assert outcome["estimate"]["cost_usd"]["ceiling"] is None
    assert outcome["estimate"]["cost_usd"]["typical"] > 0


def test_without_a_price_no_cost_is_estimated(make_context: Make) -> None:
    outcome = _run(make_context(), items=_items("a"), target={"model": "echo"}).outcome

    assert outcome["estimate"]["cost_usd"] is None
    assert outcome["usage"]["prices"] is None


def test_a_cost_says_which_prices_it_is_made_of(zoo: Zoo, make_context: Make) -> None:
    endpoint = ModelEndpoint(
        "sentiment", zoo.url, "sentiment", input_price=1.0, output_price=10.0, prices_as_of="2026-11-01"
    )

    outcome = _run(make_context(models={"sentiment": endpoint}), items=_items("a")).outcome

    expected = {"input_price": 1.0, "output_price": 10.0, "source": "host", "as_of": "2026-11-01"}
    assert expected == outcome["usage"]["prices"]


BEYOND: list[tuple[dict[str, Any], str]] = [
    ({"max_calls": 2}, "budget.max_calls: the job will need about 3, more than 2"),
    ({"max_tokens": 5}, "budget.max_tokens: the job will need about"),
    ({"max_usd": 0.000001}, "more than 0.000001; nothing was called"),
]


@pytest.mark.parametrize(("budget", "message"), BEYOND)
def test_a_job_may_ask_to_be_refused_when_its_budget_will_not_do(
    zoo: Zoo, make_context: Make, budget: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameters) as refused:
        _run(make_context(), items=_items("a", "b", "c"), budget=budget, refuse_over_budget=True)

    assert message in str(refused.value)
    assert 0 == zoo.total


def test_without_that_wish_it_goes_as_far_as_the_budget_lasts(zoo: Zoo, make_context: Make) -> None:
    outcome = _run(make_context(), items=_items("a", "b", "c"), budget={"max_calls": 2}).outcome

    assert ("budget_exhausted", 2) == (outcome["termination_reason"], zoo.total)


def test_equal_rows_share_one_call_and_the_first_has_paid(zoo: Zoo, make_context: Make) -> None:
    """Eight at once, so that equal rows are under way at the same time."""
    context = make_context()

    outcome = _run(context, items=_items(*["same", "other"] * 20), concurrency=8, share_equal_rows=True).outcome

    lines = [line["x_overmind"] for line in _lines(context)]
    assert {"same": 1, "other": 1} == dict(zoo.calls)
    assert [False, False] + [True] * 38 == [line["shared"] for line in lines]
    assert 1 == len({line["output"] for line in lines[::2]})
    assert outcome["usage"]["total_tokens"] == sum(
        line["prompt_tokens"] + line["completion_tokens"] for line in lines[:2]
    )
    assert outcome["usage"]["cost_usd"] == pytest.approx(sum(line["cost_usd"] for line in lines))
    assert (38, 40, 2, 0) == (
        outcome["shared_rows"],
        outcome["counts"]["ok"],
        outcome["usage"]["model_calls"],
        outcome["retries"],
    )
    assert {"low": 2, "typical": 2, "ceiling": 33} == outcome["estimate"]["calls"]


def test_a_second_life_shares_what_the_first_has_paid_for(zoo: Zoo, make_context: Make) -> None:
    first = make_context()
    _run(first, items=_items(*["same"] * 6), share_equal_rows=True)
    lines = _lines(first)

    _run(make_context(), items=_items(*["same"] * 6), share_equal_rows=True)

    assert 1 == zoo.total
    assert lines == _lines(first)


def test_repetitions_of_a_row_are_not_shared(zoo: Zoo, make_context: Make) -> None:
    """They are there to see how much answers differ."""
    _run(make_context(), items=_items("same", "same"), repetitions=3, share_equal_rows=True)

    assert 3 == zoo.total


def test_equal_rows_are_asked_each_unless_the_job_allows_it(zoo: Zoo, make_context: Make) -> None:
    _run(make_context(), items=_items("same", "same"))

    assert 2 == zoo.total


def test_sharing_needs_a_temperature_of_0() -> None:
    with pytest.raises(InvalidParameters, match=r"share_equal_rows needs target\.temperature 0"):
        InferenceExecutor().validate({"target": {**PRICED, "temperature": 0.5}, "share_equal_rows": True})
