"""`kill -9` at any moment: nothing that was answered is paid for again, and the result is the same."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from child_process import Child

from overmind_executors import strict_json
from overmind_executors.contract import ModelEndpoint
from zoo import Completion, Raw, Status, Zoo

Start = Callable[..., Child]
ROWS, AT_ONCE = 60, 4
# What depends on the clock; everything else has to be the same.
OF_THE_CLOCK = {"latency_ms", "started_at"}
OF_THE_RUN = {"latency_ms", "calling_s", "rows_per_s", "resumed_rows", "usage", "report_markdown"}


def _order(child: Child, zoo: Zoo, *, attempt: int, **parameters: Any) -> Child:
    items = [{"id": f"r{n}", "input": f"text {n}", "expected_output": f"text {n}"} for n in range(ROWS)]
    model = asdict(ModelEndpoint("echo", zoo.url, "echo", max_concurrency=AT_ONCE))
    given = {"items": items, "target": {"model": "echo"}, "stop_after_errors": 0, **parameters}
    return child.order(attempt=attempt, parameters=given, models=[model])


def _plant_faults(zoo: Zoo) -> None:
    """Some that last and some that pass, by row, so that a second life meets the same."""
    zoo.fail("text 5", Status(400))
    zoo.fail("text 17", Completion({"content": None, "refusal": "no"}))
    zoo.fail("text 29", Completion({"content": "te"}, "length"))
    zoo.fail("text 41", Status(500), times=1)  # a refusal would let fewer calls be under way


def _without(line: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in keys}


def _output(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "output/output.jsonl").read_text().splitlines()]
    return [{**line, "x_overmind": _without(line["x_overmind"], OF_THE_CLOCK)} for line in lines]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _undisturbed(start_child: Start, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    with Zoo() as zoo:
        _plant_faults(zoo)
        result = _order(start_child(folder), zoo, attempt=1).result()
    return _output(folder), result["outcome"]


def test_killed_again_and_again_a_job_pays_for_no_answer_twice(
    start_child: Start, tmp_path: Path, zoo: Zoo
) -> None:
    """
    Six lives. Each is killed while its calls are in flight, after so many answers of its own; the calls in flight
    may be asked again, four a life.
    """
    expected, outcome = _undisturbed(start_child, tmp_path / "undisturbed")
    _plant_faults(zoo)
    folder = tmp_path / "workspace"

    for attempt, answers in enumerate([0, 1, 9, 20, 15], start=1):
        zoo.close_gate(after=answers)
        calls_before = zoo.total
        child = _order(start_child(folder), zoo, attempt=attempt)
        zoo.wait_for_calls(calls_before + answers + AT_ONCE)
        child.signal(signal.SIGKILL)
        assert -signal.SIGKILL == child.wait()
        assert not (folder / "result.json").exists()
    zoo.open_gate()
    result = _order(start_child(folder), zoo, attempt=6).result()

    assert expected == _output(folder)
    assert _without(outcome, OF_THE_RUN) == _without(result["outcome"], OF_THE_RUN)
    assert (folder / "output/errors.jsonl").read_bytes() == (
        tmp_path / "undisturbed/output/errors.jsonl"
    ).read_bytes()
    assert zoo.total <= ROWS + 1 + 5 * AT_ONCE, "one planted retry, and four calls in flight at each kill"
    assert zoo.total == result["outcome"]["usage"]["model_calls"]


def test_of_a_job_that_was_killed_at_57_percent_no_more_than_its_calls_under_way_are_made_again(
    start_child: Start, tmp_path: Path, zoo: Zoo, is_whole: bool
) -> None:
    """Of a thousand rows in `make chaos`, four at a time: and but for what a clock says the result is the same."""
    rows = 1000 if is_whole else 100
    items = [{"id": f"r{n}", "input": f"text {n}", "expected_output": f"text {n}"} for n in range(rows)]
    with Zoo() as quiet:
        _order(start_child(tmp_path / "undisturbed"), quiet, attempt=1, items=items).result()
    folder = tmp_path / "workspace"
    zoo.close_gate(after=57 * rows // 100)
    child = _order(start_child(folder), zoo, attempt=1, items=items)
    zoo.wait_for_calls(57 * rows // 100 + AT_ONCE)
    child.signal(signal.SIGKILL)
    child.wait()
    zoo.open_gate()

    result = _order(start_child(folder), zoo, attempt=2, items=items).result()

    assert zoo.total <= rows + AT_ONCE
    assert [(f"text {n}", True) for n in range(rows)] == [
        (text, calls <= 2) for text, calls in sorted(zoo.calls.items(), key=lambda call: int(call[0][5:]))
    ]
    assert _output(tmp_path / "undisturbed") == _output(folder)
    assert rows == result["outcome"]["counts"]["ok"]


def test_answered_rows_are_asked_once(start_child: Start, tmp_path: Path, zoo: Zoo) -> None:
    """One call at a time: after 20 answers the 21st call is in flight at the kill, and only that is asked again."""
    folder = tmp_path / "workspace"
    zoo.close_gate(after=20)
    child = _order(start_child(folder), zoo, attempt=1, concurrency=1)
    zoo.wait_for_calls(21)
    child.signal(signal.SIGKILL)
    child.wait()
    zoo.open_gate()

    result = _order(start_child(folder), zoo, attempt=2, concurrency=1).result()

    assert {f"text {n}": 2 if n == 20 else 1 for n in range(ROWS)} == dict(zoo.calls)
    assert 20 == result["outcome"]["resumed_rows"]
    assert 61 == result["outcome"]["usage"]["model_calls"]


def test_a_replay_pays_nothing_and_makes_the_same_bytes(start_child: Start, tmp_path: Path, zoo: Zoo) -> None:
    """Killed after its last call, a job is made again from its journal: the same files, but for the attempt."""
    _plant_faults(zoo)
    folder = tmp_path / "workspace"
    first = _order(start_child(folder), zoo, attempt=1).result()
    calls = zoo.total
    before = _bytes(folder / "output")
    shutil.rmtree(folder / "output")

    again = _order(start_child(folder), zoo, attempt=2).result()

    after = _bytes(folder / "output")
    assert calls == zoo.total
    assert before.pop("manifest.json").replace(b'"attempt":1', b'"attempt":2') == after.pop("manifest.json")
    assert before == after
    assert first["outcome"] == again["outcome"]


@pytest.mark.parametrize(("levels", "outcome"), [(62, "ok"), (63, "invalid_response"), (64, "invalid_response")])
def test_an_answer_is_taken_only_if_it_can_be_read_again(
    start_child: Start, tmp_path: Path, zoo: Zoo, levels: int, outcome: str
) -> None:
    """From the journal in a second life, and from `output.jsonl`, by readers as strict as ours."""
    inner = levels - 1
    deep = b'{"choices": [{"message": {"content": "hi"}}], "deep": ' + b"[" * inner + b"]" * inner + b"}"
    zoo.fail("text 0", Raw(deep))
    folder = tmp_path / "workspace"
    _order(start_child(folder), zoo, attempt=1).result()
    calls = zoo.total

    result = _order(start_child(folder), zoo, attempt=2).result()

    assert "done" == result["status"], result
    assert calls == zoo.total
    first, *_ = (folder / "output/output.jsonl").read_text().splitlines()
    assert outcome == strict_json.loads(first)["x_overmind"]["outcome"]


def test_a_budget_counts_what_earlier_lives_have_spent(start_child: Start, tmp_path: Path, zoo: Zoo) -> None:
    folder = tmp_path / "workspace"
    zoo.close_gate(after=20)
    child = _order(start_child(folder), zoo, attempt=1, concurrency=1, budget={"max_calls": 30})
    zoo.wait_for_calls(21)
    child.signal(signal.SIGKILL)
    child.wait()
    zoo.open_gate()

    result = _order(start_child(folder), zoo, attempt=2, concurrency=1, budget={"max_calls": 30}).result()

    assert 30 == zoo.total
    assert 29 == result["outcome"]["counts"]["ok"]
    assert "budget_exhausted" == result["outcome"]["termination_reason"]
