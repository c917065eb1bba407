"""Outputs that have to be JSON of a form: checked row by row, and asked for once more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.contract import Context, InvalidParameters, ModelEndpoint, Result
from overmind_executors.inference import InferenceExecutor
from overmind_executors.inference.recounting import recounted
from zoo import Completion, Status, Zoo

Make = Callable[..., Context]
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
SAID = {"good": '{"n": 1}', "fenced": '```json\n{"n": 1}\n```', "wrong": '{"n": "1"}', "prose": "It is one."}


def _former(messages: list[dict[str, Any]]) -> str:
    """Says what the row wants to hear; asked once more it does better, unless the row is stubborn."""
    row = str(messages[0]["content"]).split()
    if "fits the schema" in str(messages[-1]["content"]) and row[1] == "learns":
        return SAID["good"]
    return SAID[row[0]]


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    with Zoo({"former": _former}) as opened:
        yield opened


def _run(make_context: Make, zoo: Zoo, texts: list[str], **parameters: Any) -> tuple[Context, Result]:
    model = ModelEndpoint("former", zoo.url, "former", max_concurrency=4, input_price=1.0, output_price=1.0)
    context = make_context(models={"former": model})
    executor = InferenceExecutor(policy=RetryPolicy(base_s=0.001, cap_s=0.002))
    items = [{"id": f"r{n}", "input": text} for n, text in enumerate(texts)]
    given = {"items": items, "target": {"model": "former", "max_tokens": 50}, "output_schema": SCHEMA, **parameters}
    return context, executor.run(executor.validate(given), context)


def _about(context: Context, *keys: str) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (context.output / "output.jsonl").read_text().splitlines()]
    return [tuple(line["x_overmind"][key] for key in keys) for line in lines]


def test_a_model_that_missed_the_form_is_asked_once_more(make_context: Make, zoo: Zoo) -> None:
    texts = ["good at-once", "prose learns", "wrong learns", "fenced learns", "wrong stubborn", "prose stubborn"]

    context, result = _run(make_context, zoo, texts)

    assert [
        ("ok", False, 1, SAID["good"]),
        ("ok", True, 2, SAID["good"]),
        ("ok", True, 2, SAID["good"]),
        ("ok", True, 2, SAID["good"]),
        ("schema_mismatch", True, 2, SAID["wrong"]),
        ("schema_mismatch", True, 2, SAID["prose"]),
    ] == _about(context, "outcome", "repaired", "attempts", "output")
    facts = result.outcome
    assert (11, 5, 0) == (facts["usage"]["model_calls"], facts["repairs"], facts["retries"])
    assert facts["usage"]["cost_usd"] == pytest.approx(sum(cost for (cost,) in _about(context, "cost_usd")))
    said, again = recounted(context.output)
    assert said == again


def test_each_way_to_miss_an_answer_is_counted_as_what_it_is(make_context: Make, zoo: Zoo) -> None:
    zoo.fail("good refused", Completion({"content": None, "refusal": "no"}))
    zoo.fail("good cut", Completion({"content": '{"n": '}, "length"))
    zoo.fail("good late", Status(500), times=1)
    texts = ["good refused", "good cut", "good late", "wrong stubborn", "prose learns", "good fine"]

    _, result = _run(make_context, zoo, texts)

    assert {"ok": 3, "refused": 1, "schema_mismatch": 1, "truncated": 1} == result.outcome["outcomes"]
    assert (1, 2) == (result.outcome["retries"], result.outcome["repairs"])


def test_a_job_may_do_without_the_second_question(make_context: Make, zoo: Zoo) -> None:
    context, _ = _run(make_context, zoo, ["wrong learns", "good x"], repair=False)

    assert [("schema_mismatch", 1), ("ok", 1)] == _about(context, "outcome", "attempts")
    assert b'"wrong learns"' in (context.output / "errors.jsonl").read_bytes()


def test_the_second_question_has_its_room_in_the_estimate(make_context: Make, zoo: Zoo) -> None:
    _, result = _run(make_context, zoo, [f"wrong stubborn {n}" for n in range(9)] + ["good x"])

    usage, estimate = result.outcome["usage"], result.outcome["estimate"]
    for name, used in (("calls", "model_calls"), ("tokens", "total_tokens"), ("cost_usd", "cost_usd")):
        assert estimate[name]["low"] <= usage[used] <= estimate[name]["ceiling"], name


def test_the_same_job_again_asks_nothing(make_context: Make, zoo: Zoo) -> None:
    texts = ["prose learns", "wrong stubborn", "good x"]
    first, _ = _run(make_context, zoo, texts)
    lines, calls = (first.output / "output.jsonl").read_bytes(), zoo.total

    again, _ = _run(make_context, zoo, texts)

    assert (lines, calls) == ((again.output / "output.jsonl").read_bytes(), zoo.total)


@pytest.mark.parametrize("schema", [{"type": 7}, {"$ref": "http://127.0.0.1:9/x"}])
def test_a_schema_that_is_none_is_refused_before_any_call(
    make_context: Make, zoo: Zoo, schema: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameters, match="output_schema: cannot be used"):
        _run(make_context, zoo, ["good x"], output_schema=schema)

    assert 0 == zoo.total
