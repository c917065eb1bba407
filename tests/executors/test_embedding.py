"""`embedding_cosine`, over a real server: vectors in, cosines out, and nothing of what the server says believed."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from child_process import Child

from overmind_executors.backtesting import BacktestingExecutor
from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.embeddings import vectors
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.prices import prices_of
from overmind_executors.contract import (
    AnswersKept,
    Context,
    ExecutionFailed,
    InvalidParameters,
    ModelEndpoint,
    Result,
    WorkStopped,
)
from overmind_executors.inference import InferenceExecutor
from overmind_executors.judge_scoring import JudgeScoringExecutor
from overmind_executors.judge_scoring.embedder import MOST_BYTES, MOST_TEXTS, batches
from overmind_executors.judge_scoring.recounting import recounted
from overmind_executors.rows.rows import Row
from overmind_executors.scoring.embedding import EmbeddingCosine, cosine
from overmind_executors.stopping import StopFlag
from overmind_executors.tuning import PromptTuningExecutor
from zoo import Raw, Status, Zoo
from zoo_embeddings import bag_of_words

Make = Callable[..., Context]
Start = Callable[..., Child]
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)
COSINE = {"kind": "embedding_cosine", "model": "vectors"}
PAIRS = {
    "same": ("the cat sat", "the cat sat"),
    "near": ("the cat sat", "the cat ran"),
    "far": ("quick brown fox", "sat idle here"),
}
ITEMS = [{"id": n, "output": said, "expected_output": wanted} for n, (said, wanted) in PAIRS.items()]


def _endpoint(zoo: Zoo, **changes: Any) -> ModelEndpoint:
    return ModelEndpoint("vectors", zoo.url, "m", input_price=1.0, kind="embeddings", **changes)


@pytest.fixture
def make(make_context: Make, zoo: Zoo) -> Make:
    """`make(…)`: a context whose host offers a model for chats and one for vectors."""
    models = {"echo": ModelEndpoint("echo", zoo.url, "echo"), "vectors": _endpoint(zoo)}
    return lambda given=None, **changes: make_context(given, **{"models": models, **changes})


def _run(context: Context, **parameters: Any) -> Result:
    executor = JudgeScoringExecutor(policy=QUICK)
    return executor.run(executor.validate({"evaluators": [COSINE], **parameters}), context)


def _lines(folder: Path, name: str = "scores.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def _scores(context: Context) -> dict[str, tuple[str, float | None, str]]:
    """Outcome, value and code of each row."""
    said = {line["item_id"]: line["scores"]["embedding_cosine"] for line in _lines(context.output)}
    return {name: (one["outcome"], one["value"], one.get("code", "")) for name, one in said.items()}


def _many(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "output": f"word{n} x", "expected_output": f"word{n} y"} for n in range(count)]


def test_a_rows_value_is_the_cosine_of_its_vectors_and_the_figure_is_their_mean(make: Make) -> None:
    context = make()
    expected = {n: round(cosine(*map(bag_of_words, pair)), 6) for n, pair in PAIRS.items()}

    facts = _run(context, items=ITEMS).outcome

    assert {name: ("scored", value, "") for name, value in expected.items()} == _scores(context)
    assert 1.0 == expected["same"] > expected["near"] > expected["far"] >= 0.0
    mean = round(sum(expected.values()) / 3, 6)
    assert (mean, "embedding_cosine") == (facts["avg_score"], facts["evaluators"]["embedding_cosine"]["kind"])
    assert mean == facts["evaluators"]["embedding_cosine"]["mean"]
    assert "texts embedded by vectors" in facts["report_markdown"]


@pytest.mark.parametrize(("angle", "expected"), [(0, 1.0), (60, 0.5), (90, 0.0), (180, 0.0)])
def test_a_negative_cosine_is_worth_nothing(zoo: Zoo, make: Make, angle: int, expected: float) -> None:
    turned = math.radians(angle)
    zoo.fail("", _raw([[3.0, 0.0], [math.cos(turned), math.sin(turned)]]))
    context = make()

    _run(context, items=ITEMS[1:2])

    assert {"near": ("scored", expected, "")} == _scores(context)


def test_each_distinct_text_is_asked_once_and_many_in_a_call(zoo: Zoo, make: Make) -> None:
    items = [*_many(40), *({**item, "id": f"again-{item['id']}"} for item in _many(40))]
    again = {**COSINE, "name": "again"}

    facts = _run(make(), items=items, evaluators=[COSINE, again]).outcome

    assert {1} == set(zoo.calls.values())
    assert (80, 3) == (len(zoo.calls), zoo.total)
    assert [16, 32, 32] == sorted(len(body["input"]) for body in zoo.bodies)
    assert {"model": "m", "encoding_format": "float"} == {k: v for k, v in zoo.bodies[0].items() if k != "input"}
    assert {
        "texts": 80,
        "calls": 3,
        "cached": 0,
        "prompt_tokens": 160,
        "cost_usd": 0.00016,
        "outcomes": {"ok": 3},
    } == (facts["embeddings"]["vectors"])
    usage = facts["usage"]
    assert (3, 160, 160, 0.00016) == tuple(
        usage[key] for key in ("model_calls", "prompt_tokens", "total_tokens", "cost_usd")
    )


def test_a_batch_is_full_by_its_texts_or_by_its_bytes() -> None:
    def sizes(length: int, count: int) -> list[int]:
        rows = [
            Row(n, n, f"r{n}", {"output": f"{n} ".ljust(length, "x"), "expected_output": "x"}) for n in range(count)
        ]
        return [len(batch) for batch in batches([EmbeddingCosine(model="m")], rows)]

    assert [MOST_TEXTS, 2] == sizes(10, MOST_TEXTS + 1)
    assert [4, 4, 2] == sizes(MOST_BYTES // 4, 9)
    assert [1, 1, 1, 1] == sizes(MOST_BYTES + 1, 3)


def test_what_cannot_be_compared_is_not_asked_and_not_scored(zoo: Zoo, make: Make) -> None:
    context = make()
    items = [
        ITEMS[0],
        {"id": "no-output", "expected_output": "x"},
        {"id": "no-reference", "output": "a"},
        {"id": "blank", "output": "a", "expected_output": " "},
        "broken",
    ]

    facts = _run(context, items=items).outcome

    assert {"the cat sat": 1} == zoo.calls
    assert 1.0 == facts["avg_score"]
    lines = {line["item_id"]: (line["outcome"], line["code"]) for line in _lines(context.output)}
    assert {
        "same": ("scored", None),
        "no-output": ("skipped", "missing_output"),
        "no-reference": ("abstained", "no_reference"),
        "blank": ("abstained", "no_text"),
        "line-5": ("error", "invalid_row"),
    } == lines


def _raw(found: list[Any], **changes: Any) -> Raw:
    data = [{"index": n, "embedding": vector} for n, vector in enumerate(found)]
    return Raw(json.dumps({"data": data, "usage": {"prompt_tokens": 1}, **changes}).encode())


def _read(body: dict[str, Any], texts: int = 2) -> Answer:
    return vectors(Answer(Kind.OK, status=200), body, {"input": ["t"] * texts})


GOOD = [{"index": 0, "embedding": [1.0, 0]}, {"index": 1, "embedding": [0, 2.5]}]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        GOOD[:1],
        [*GOOD, {"index": 2, "embedding": [1, 1]}],
        [GOOD[0], GOOD[0]],
        [GOOD[0], {"embedding": [0, 1]}],
        [GOOD[0], {"index": 2, "embedding": [0, 1]}],
        [GOOD[0], {"index": -1, "embedding": [0, 1]}],
        [GOOD[0], {"index": True, "embedding": [0, 1]}],
        [GOOD[0], {"index": [1], "embedding": [0, 1]}],
        [GOOD[0], {"index": 1, "embedding": [0, 1, 2]}],
        [GOOD[0], {"index": 1, "embedding": []}],
        [GOOD[0], {"index": 1, "embedding": "AAAA"}],
        [GOOD[0], {"index": 1}],
        [GOOD[0], None],
        [{"index": n, "embedding": [0, 0]} for n in (0, 1)],
    ],
)
def test_an_answer_that_is_none_says_nothing_of_any_text(data: Any) -> None:
    answer = _read({"data": data, "usage": {"prompt_tokens": 7}})

    assert (Kind.INVALID_RESPONSE, None, 7) == (answer.kind, answer.output, answer.prompt_tokens)


@pytest.mark.parametrize(
    "vector", [[0, 0], [-0.0, 0.0], [1e-60, 0], [1e39, 0], [None, 1], ["1", 1], [True, 1], [[1], 1]]
)
def test_a_vector_that_is_none_harms_no_other(vector: Any) -> None:
    answer = _read({"data": [GOOD[1], {"index": 0, "embedding": vector}]})

    assert (Kind.OK, None, "AAAAAAAAIEA=") == (answer.kind, *answer.output)


def test_vectors_are_put_in_the_order_of_the_texts() -> None:
    assert _read({"data": GOOD}).output == _read({"data": GOOD[::-1]}).output


FAULTS: Mapping[str, tuple[Any, tuple[str, str]]] = {
    "another number": (_raw([[1.0]]), ("error", "invalid_response")),
    "not json": (Raw(b"no"), ("error", "invalid_response")),
    "nan": (
        Raw(b'{"data":[{"index":0,"embedding":[NaN]},{"index":1,"embedding":[1]}]}'),
        ("error", "invalid_response"),
    ),
    "a chat": (Raw(b'{"choices":[{"message":{"content":"hi"}}]}'), ("error", "invalid_response")),
    "a zero vector": (_raw([[0.0, 0.0], [1.0, 0.0]]), ("error", "no_vector")),
    "too large": (Raw(b'{"data": [' + b" " * (9 << 20) + b"]}"), ("error", "invalid_response")),
    "no such model": (Status(404), ("error", "bad_request")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_answer_is_an_error_and_lowers_no_mean(zoo: Zoo, make: Make, fault: str) -> None:
    told, (outcome, code) = FAULTS[fault]
    zoo.fail("", told)
    context = make()

    facts = _run(context, items=ITEMS[1:2], evaluators=[COSINE, {"kind": "regex", "pattern": "cat"}]).outcome

    assert {"near": (outcome, None, code)} == _scores(context)
    assert (1.0, None) == (facts["avg_score"], facts["evaluators"]["embedding_cosine"]["mean"])
    assert 1 == facts["evaluators"]["embedding_cosine"]["error"] == zoo.total


def test_vectors_of_two_answers_may_differ_in_length_and_are_not_compared(zoo: Zoo, make: Make) -> None:
    items = _many(17)
    zoo.fail("word16 x", _raw([[1.0, 2.0], [2.0, 1.0]]))
    items.append({"id": "across", "output": "word0 x", "expected_output": "word16 y"})
    context = make()

    _run(context, items=items)

    found = _scores(context)
    assert ("error", None, "unequal_vectors") == found["across"]
    assert ("scored", 0.8, "") == found["r16"]


def test_a_text_that_was_not_there_when_vectors_were_made_is_an_error(zoo: Zoo, make: Make, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    context = make(data_roots=(tmp_path,))

    def report(_step: int, _steps: int, name: str) -> None:
        if name == "texts":
            rows.write_text(rows.read_text().replace("the cat ran", "the dog ran"))

    _run(replace(context, report=report), path=str(tmp_path / "rows.jsonl"))

    assert {"same": "", "near": "not_embedded", "far": ""} == {n: one[2] for n, one in _scores(context).items()}


def test_a_text_that_is_refused_takes_no_other_with_it(zoo: Zoo, make: Make) -> None:
    zoo.fail("word1 x", Status(400))
    context = make()

    facts = _run(context, items=_many(3)).outcome

    assert {"r0": "scored", "r1": "error", "r2": "scored"} == {n: one[0] for n, one in _scores(context).items()}
    assert 7 == zoo.total == facts["usage"]["model_calls"]
    assert {"bad_request": 2, "ok": 5} == facts["embeddings"]["vectors"]["outcomes"]
    assert 1e-05 == facts["usage"]["cost_usd"]


def test_a_model_that_never_answers_is_left_after_so_many_texts(zoo: Zoo, make: Make) -> None:
    zoo.fail("", Status(404))
    models = {"vectors": _endpoint(zoo, max_concurrency=1)}

    with pytest.raises(ExecutionFailed) as caught:
        _run(make(models=models), items=_many(200))

    assert "too_many_errors" == caught.value.reason
    assert zoo.total <= 3


def test_a_budget_ends_the_calls_and_the_other_rows_are_skipped(zoo: Zoo, make: Make) -> None:
    context = make(models={"vectors": _endpoint(zoo, max_concurrency=1)})

    facts = _run(context, items=_many(40), budget={"max_calls": 1}).outcome

    assert 1 == zoo.total
    assert {"scored": 16, "skipped": 24} == facts["outcomes"]
    assert {"budget_exhausted": 24} == facts["codes"]
    assert (True, "budget_exhausted") == (facts["partial"], facts["termination_reason"])


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        ({"evaluators": [{**COSINE, "model": "echo"}]}, "evaluators.0.model", "is one for chat on this host"),
        ({"evaluators": [{**COSINE, "model": "vectrs"}]}, "evaluators.0.model", "did you mean 'vectors'"),
        ({"judge": {"models": ["vectors"]}}, "judge.models", "is one for embeddings on this host"),
        ({"evaluators": [{"kind": "embedding_cosine"}]}, "evaluators.0.embedding_cosine.model", "required"),
        ({"metrics": [COSINE]}, "metrics.0", "embedding_cosine"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_the_first_call(
    zoo: Zoo, make: Make, parameters: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidParameters) as caught:
        _run(make(), items=ITEMS, **parameters)

    (problem,) = caught.value.problems
    assert field == problem.field
    assert words in problem.message
    assert 0 == zoo.total


CHATS: Mapping[str, tuple[Any, dict[str, Any], str]] = {
    "inference": (InferenceExecutor(), {"target": {"model": "vectors"}}, "target.model"),
    "tuning": (
        PromptTuningExecutor(),
        {"prompt": "Say it.", "target": {"model": "echo"}, "analyzer_model": "vectors"},
        "analyzer_model",
    ),
    "backtesting": (
        BacktestingExecutor(),
        {
            "current_model": "echo",
            "models": ["vectors"],
            "evaluators": [{"kind": "exact_match"}],
        },
        "models",
    ),
}


@pytest.mark.parametrize("job_type", CHATS)
def test_a_model_for_embeddings_cannot_be_chatted_with(zoo: Zoo, make: Make, job_type: str) -> None:
    executor, parameters, field = CHATS[job_type]
    task = executor.validate(
        {"items": [{"input": f"hi {n}", "expected_output": "a"} for n in range(9)], **parameters}
    )

    with pytest.raises(InvalidParameters) as caught:
        executor.run(task, make())

    (problem,) = caught.value.problems
    assert (field, "model 'vectors' is one for embeddings on this host, and one for chat is needed") == (
        problem.field, problem.message,
    )  # fmt: skip
    assert 0 == zoo.total


def test_what_is_estimated_holds_what_is_used(zoo: Zoo, make: Make) -> None:
    zoo.fail("word1 x", Status(400))
    zoo.fail("", Status(500), times=1)

    facts = _run(make(), items=_many(40)).outcome

    estimate, usage = facts["estimate"], facts["usage"]
    assert {"low": 3, "typical": 3} == {key: estimate["calls"][key] for key in ("low", "typical")}
    for name, used in (
        ("calls", usage["model_calls"]), ("tokens", usage["total_tokens"]), ("cost_usd", usage["cost_usd"] or 0.0),
    ):  # fmt: skip
        assert used <= estimate[name]["ceiling"]
    assert usage["total_tokens"] >= estimate["tokens"]["low"]


def test_a_model_for_embeddings_needs_no_price_for_what_it_writes(zoo: Zoo) -> None:
    assert (1.0, 0.0) == prices_of(_endpoint(zoo))
    assert prices_of(replace(_endpoint(zoo), kind="chat")) is None


def test_the_figures_can_be_made_again_from_the_lines(zoo: Zoo, make: Make) -> None:
    zoo.fail("word1 x", Status(400))
    context = make()

    result = _run(context, items=_many(20))

    said, again = recounted(context.output)
    assert said == again
    assert "embeddings.jsonl" in result.files
    lines = (context.output / "embeddings.jsonl").read_text()
    (context.output / "embeddings.jsonl").write_text(lines.replace('"calls":1', '"calls":2', 1))
    said, again = recounted(context.output)
    assert ["embeddings"] == [key for key in said if said[key] != again[key]]


def test_a_later_job_does_not_pay_for_the_same_texts_where_answers_are_kept(
    zoo: Zoo, make: Make, tmp_path: Path
) -> None:
    kept = AnswersKept(tmp_path / "answers", 1.0)
    _run(make(answers_kept=kept), items=_many(20))
    asked = zoo.total
    later = tmp_path / "later"
    later.mkdir()

    facts = _run(make(answers_kept=kept, state=later), items=_many(20)).outcome

    assert asked == zoo.total
    assert (2, 0, 0.0) == tuple(facts["usage"][key] for key in ("cached_answers", "model_calls", "cost_usd"))


def test_a_job_that_is_stopped_ends_between_its_calls(zoo: Zoo, make: Make) -> None:
    stop = StopFlag()
    stop.set()

    with pytest.raises(WorkStopped):
        _run(make(stop=stop), items=_many(40))

    assert 0 == zoo.total


def test_killed_in_its_third_call_it_pays_for_no_call_twice(
    zoo: Zoo, make: Make, start_child: Start, tmp_path: Path
) -> None:
    def order(attempt: int) -> Child:
        return start_child(tmp_path / "workspace").order(
            job_type="judge_scoring",
            attempt=attempt,
            parameters={"items": _many(100), "evaluators": [COSINE]},
            models=[asdict(_endpoint(zoo, max_concurrency=1))],
        )

    undisturbed = make()
    _run(undisturbed, items=_many(100))
    before, calls = zoo.total, zoo.calls.copy()

    zoo.close_gate(after=2)
    child = order(1)
    zoo.wait_for_calls(before + 3)
    child.signal(signal.SIGKILL)
    child.wait()
    zoo.open_gate()
    result = order(2).result()

    assert before + 1 == zoo.total - before == result["outcome"]["usage"]["model_calls"]
    assert MOST_TEXTS == sum(asked - calls[text] == 2 for text, asked in zoo.calls.items())
    assert _lines(undisturbed.output) == _lines(tmp_path / "workspace/output")
