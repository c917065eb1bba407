"""Programs that ask chat models while they run: in their sandbox, and on hosts without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_executors.contract import Context, ExecutionFailed, InvalidParameters
from overmind_executors.inference import InferenceExecutor
from overmind_executors.sandbox.deciding import decide
from overmind_executors.sandbox.levels import Level, Sandbox
from zoo import Status, Zoo

Make = Callable[..., Context]

# What an author would write who has no client library.
AGENT: Final = r"""
import json, os, urllib.error, urllib.request

def ask(content, model="sentiment", path="/chat/completions", **more):
    key = more.pop("key", os.environ["OPENAI_API_KEY"])
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **more}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]["code"]

def said(text):
    return json.loads(text)["choices"][0]["message"]["content"]

def answer(given):
    return said(ask("one word, positive or negative: " + given))

def twice(given):
    return [said(ask(given, "echo", temperature=1)) for _ in range(2)]

def wrong(given):
    return [ask("x", "gpt-5"), ask("x", key="sk-mine"), ask("x", path="/embeddings"), ask("x" * (9 << 20))]

def stream(given):
    return ask(given, "echo", stream=True, stream_options={"include_usage": True})

def secrets(given):
    shown = dict(os.environ)
    shown.pop("OPENAI_API_KEY")
    return "sk-canary" in json.dumps(shown)

def greedy(given):
    for _ in range(10):
        ask(given, "echo")
    return "whatever"
"""


@pytest.fixture(scope="module", params=["bubblewrap", "limits"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each level; where bubblewrap does not work, what `auto` takes in its place."""
    return decide("auto", Sandbox()) if request.param == "bubblewrap" else Sandbox(level=Level.LIMITS)


@pytest.fixture
def run(tmp_path: Path, make_context: Make, sandbox: Sandbox) -> Callable[..., list[dict[str, Any]]]:
    """Run one of the agent's functions over rows; the lines of the result."""
    (tmp_path / "code" / "agents").mkdir(parents=True)
    (tmp_path / "code" / "agents" / "main.py").write_text(AGENT)

    def run(name: str, *inputs: str, models: tuple[str, ...] = ("sentiment", "echo"), **more: Any) -> Any:
        context = make_context(code_roots=(tmp_path / "code",), sandbox=sandbox)
        executor = InferenceExecutor()
        target = {"kind": "agent", "path": "agents", "entrypoint": f"main:{name}", "models": list(models)}
        items = [{"id": f"r{number}", "input": given} for number, given in enumerate(inputs)]
        executor.run(executor.validate({"target": target, "items": items, "concurrency": 2, **more}), context)
        return [json.loads(line) for line in (context.output / "output.jsonl").read_text().splitlines()]

    return run


def _summary(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "output" / "summary.json").read_text())


def test_a_program_asks_a_model_and_pays_for_it(run: Any, zoo: Zoo, tmp_path: Path) -> None:
    """Tokens and money stand in the row and in the job's sums, as if the row had asked the model itself."""
    lines = run("answer", "I love it", "I hate it")

    assert ["positive", "negative"] == [line["x_overmind"]["output"] for line in lines]
    usage = _summary(tmp_path)["usage"]
    assert 2 == usage["model_calls"] == sum(zoo.calls.values())
    assert usage["total_tokens"] > 0
    assert usage["cost_usd"] > 0


def test_the_same_question_twice_is_two_calls(run: Any, zoo: Zoo) -> None:
    (line,) = run("twice", "hello")

    assert ["hello", "hello"] == line["x_overmind"]["output"]
    assert 2 == zoo.calls["hello"]


def test_what_a_program_may_not_ask_is_refused_with_a_code(run: Any, zoo: Zoo) -> None:
    (line,) = run("wrong", "x")

    codes = ["model_not_found", "invalid_api_key", "not_found", "request_too_large"]
    assert codes == line["x_overmind"]["output"]
    assert 0 == sum(zoo.calls.values())


def test_a_client_that_wants_a_stream_gets_one(run: Any) -> None:
    (line,) = run("stream", "hello")

    *events, end = [text.removeprefix("data: ") for text in line["x_overmind"]["output"].strip().split("\n\n")]
    chunks = [json.loads(event) for event in events]
    assert "[DONE]" == end
    assert ["hello", None] == [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:2]]
    assert [None, "stop"] == [chunk["choices"][0]["finish_reason"] for chunk in chunks[:2]]
    assert chunks[2]["usage"]["total_tokens"] > 0


def test_no_key_of_the_hosts_is_in_a_program(run: Any) -> None:
    (line,) = run("secrets", "x")

    assert line["x_overmind"]["output"] is False


def test_a_program_spends_no_more_than_the_jobs_budget(run: Any, zoo: Zoo, tmp_path: Path) -> None:
    """A run that met the end of the budget says nothing about its row, whatever the program made of it."""
    with pytest.raises(ExecutionFailed, match="no row was answered") as failed:
        run("greedy", "x", "y", "z", budget={"max_calls": 3}, concurrency=1)

    assert "budget_exhausted" == failed.value.reason
    assert 3 == sum(zoo.calls.values())


def test_what_a_program_has_paid_for_is_not_paid_for_again(
    run: Any, zoo: Zoo, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Its job was cut off before its answer was noted; the calls are in a journal of their own."""
    run("twice", "hello")
    (tmp_path / "state" / "paid_calls.sqlite").unlink()
    for left in (tmp_path / "state").glob("paid_calls.sqlite-*"):
        left.unlink()

    (line,) = run("twice", "hello")

    assert ["hello", "hello"] == line["x_overmind"]["output"]
    assert 2 == zoo.calls["hello"] == _summary(tmp_path)["usage"]["model_calls"]


def test_a_models_failure_reaches_the_program_as_one(run: Any, zoo: Zoo) -> None:
    zoo.fail("hello", Status(400), times=1)

    with pytest.raises(ExecutionFailed, match="1 x crash"):
        run("twice", "hello")


def test_a_program_may_ask_only_models_of_the_host(run: Any) -> None:
    with pytest.raises(InvalidParameters, match=r"no model .ecko. on this host; did you mean .echo."):
        run("answer", "x", models=("ecko",))
