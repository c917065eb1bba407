"""Targets that are programs of the host: Python agents and commands."""

from __future__ import annotations

import json
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_executors.contract import Context, ExecutionFailed, InvalidParameters, Result, WorkStopped
from overmind_executors.inference import InferenceExecutor
from overmind_executors.stopping import StopFlag

Make = Callable[..., Context]

AGENT: Final = """
import json, os, pathlib, sys, time
from helper import PREFIX

def answer(given):
    print("thinking about", given)
    return {"said": PREFIX + str(given), "here": os.getcwd()}

async def later(given):
    return given

def mark(given):
    with open(pathlib.Path(__file__).with_name("calls"), "a") as file:
        file.write(given + "\\n")
    return given

def crash(given):
    raise ValueError("no " + given)

def leave(given):
    os._exit(3)

def vanish(given):
    os._exit(0)

def bye(given):
    sys.exit("bye")

def odd(given):
    return {1, 2}

def wrong(given):
    os.closerange(3, 100)

def hang(given):
    time.sleep(600)
"""
SHADOW: Final = "raise RuntimeError('the agent stands in for the standard library')\n"
COMMAND: Final = """
import json, sys, time
given = json.load(sys.stdin)["input"]
match given:
    case "exit": sys.exit(2)
    case "text": print("not JSON")
    case "array": print("[1]")
    case "much": print("x" * 3_000_000)
    case "hang": time.sleep(600)
    case _: print(json.dumps({"output": given.upper()}))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A code folder with one agent, which has a file named like a module of the standard library."""
    folder = tmp_path / "code" / "agents"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(AGENT)
    (folder / "helper.py").write_text("PREFIX = 'so: '\n")
    (folder / "asyncio.py").write_text(SHADOW)
    return tmp_path / "code"


def _run(context: Context, target: dict[str, Any], *inputs: str, **more: Any) -> Result:
    executor = InferenceExecutor()
    items = [{"id": f"r{n}", "input": given, "expected_output": "A"} for n, given in enumerate(inputs)]
    parameters = {"target": target, "items": items, "concurrency": 2, "item_timeout_s": 20.0, **more}
    return executor.run(executor.validate(parameters), context)


def _agent(name: str = "answer", path: str = "agents") -> dict[str, Any]:
    return {"kind": "agent", "path": path, "entrypoint": f"main:{name}"}


def _lines(context: Context) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.output / "output.jsonl").read_text().splitlines()]


def test_an_agent_answers_each_row_in_a_process_and_a_folder_of_its_own(make_context: Make, code: Path) -> None:
    context = make_context(code_roots=(code,))

    outcome = _run(context, _agent(), "one", "two").outcome

    said = [line["x_overmind"]["output"] for line in _lines(context)]
    assert ["so: one", "so: two"] == [output["said"] for output in said]
    assert 2 == len({output["here"] for output in said})
    assert not any(Path(output["here"]).exists() for output in said)
    assert {"kind": "agent", "model": "main:answer", "sandbox": "none"} == outcome["target"]
    assert (2, None) == (outcome["usage"]["model_calls"], outcome["estimate"]["cost_usd"])


def test_an_agent_may_be_a_coroutine(make_context: Make, code: Path) -> None:
    (code / "agents" / "asyncio.py").unlink()
    context = make_context(code_roots=(code,))

    _run(context, _agent("later"), "one")

    assert ["one"] == [line["x_overmind"]["output"] for line in _lines(context)]


FAILURES: Final = {
    "crash": ("crash", "ValueError: no x"),
    "leave": ("crash", "the program ended with exit code 3; see the log"),
    "vanish": ("crash", "the program ended and gave no answer"),
    "bye": ("crash", "SystemExit: bye"),
    "odd": ("invalid_response", "TypeError: Object of type set is not JSON serializable"),
    "wrong": ("crash", "the program ended with exit code 1; see the log"),
    "missing": ("import_error", "AttributeError: module 'main' has no attribute 'missing'"),
}


@pytest.mark.parametrize(("name", "expected"), FAILURES.items(), ids=FAILURES)
def test_what_goes_wrong_in_an_agent_is_its_rows_outcome(
    make_context: Make, code: Path, name: str, expected: tuple[str, str]
) -> None:
    context = make_context(code_roots=(code,))

    with pytest.raises(ExecutionFailed, match=f"1 x {expected[0]}"):
        _run(context, _agent(name), "x")

    (line,) = _lines(context)
    assert {"code": expected[0], "message": expected[1]} == line["error"]


def test_an_agent_has_its_time(make_context: Make, code: Path) -> None:
    with pytest.raises(ExecutionFailed, match="1 x timeout"):
        _run(make_context(code_roots=(code,)), _agent("hang"), "x", item_timeout_s=0.5)


def test_an_agent_comes_from_a_bundle_whose_names_lead_nowhere_else(
    make_context: Make, code: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(code / "agents.zip", "w") as archive:
        for file in (code / "agents").iterdir():
            archive.write(file, file.name)
        archive.writestr("../../escaped.py", "")
    context = make_context(code_roots=(code,))

    _run(context, _agent(path="agents.zip"), "one")

    assert ["so: one"] == [line["x_overmind"]["output"]["said"] for line in _lines(context)]
    assert [] == [path for path in tmp_path.rglob("escaped.py") if not path.is_relative_to(context.state / "code")]


REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "outside": (_agent(path="../state"), "target.path: no such folder or bundle in this host's code_roots"),
    "absolute": (_agent(path="/etc"), "target.path: no such folder or bundle in this host's code_roots"),
    "no zip": (_agent(path="agents/main.py"), "target.path: not a zip file (BadZipFile)"),
    "a command": (
        {"kind": "command", "command": "uper"},
        "target.command: no such command on this host; did you mean 'upper'?",
    ),
}


@pytest.mark.parametrize(("target", "message"), REFUSED.values(), ids=REFUSED)
def test_a_program_that_the_host_does_not_offer_is_refused(
    make_context: Make, code: Path, target: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameters) as refused:
        _run(make_context(code_roots=(code,), commands={"upper": ("true",)}), target, "x")

    assert message == str(refused.value)


def test_a_host_without_code_roots_runs_no_agent(make_context: Make) -> None:
    with pytest.raises(InvalidParameters, match=r"target\.path: this host runs no agents"):
        _run(make_context(), _agent(), "x")


def test_a_command_reads_a_row_and_says_its_output(make_context: Make) -> None:
    """What goes wrong is the row's outcome here, too."""
    context = make_context(commands={"upper": (sys.executable, "-c", COMMAND)})

    outcome = _run(
        context, {"kind": "command", "command": "upper"}, "a", "exit", "text", "array", "much", "b"
    ).outcome

    lines = _lines(context)
    assert ["A", None, None, None, None, "B"] == [line["x_overmind"]["output"] for line in lines]
    assert {"ok": 2, "crash": 1, "invalid_response": 3} == outcome["outcomes"]
    assert [True, None, None, None, None, False] == [line["x_overmind"]["correct"] for line in lines]


def test_a_stop_ends_a_command_at_work(make_context: Make) -> None:
    stop = StopFlag()
    context = make_context(commands={"upper": (sys.executable, "-c", COMMAND)}, stop=stop)
    threading.Timer(0.3, stop.set).start()

    with pytest.raises(WorkStopped):
        _run(context, {"kind": "command", "command": "upper"}, "hang")


def test_a_row_that_an_agent_has_answered_is_not_asked_again(make_context: Make, code: Path) -> None:
    for _ in range(2):
        _run(make_context(code_roots=(code,)), _agent("mark"), "one", "two", concurrency=1)

    assert "one\ntwo\n" == (code / "agents" / "calls").read_text()


def test_a_wrong_field_of_a_program_is_named_as_it_was_written() -> None:
    with pytest.raises(InvalidParameters) as refused:
        InferenceExecutor().validate({"target": {**_agent(), "entrypoint": "main.py", "temperature": 0}})

    assert ["target.entrypoint", "target.temperature"] == sorted(
        problem.field for problem in refused.value.problems
    )
