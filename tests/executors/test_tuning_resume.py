"""Tuning that is killed: no call that was answered is paid for twice, and the end is that of an undisturbed job."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from child_process import Child

from overmind_executors.contract import ModelEndpoint
from zoo import Zoo
from zoo_writers import by_question, rows, tuned

Start = Callable[..., Child]
OF_THE_RUN = {"resumed_steps", "usage", "report_markdown", "test_run_id", "comparison_id"}
FILES = ("best_prompt.txt", "prompt.diff", "candidates.jsonl")
PARAMETERS: dict[str, Any] = {
    "items": rows(40),
    "prompt": "Say right or wrong. worth=0.4",
    "target": {"model": "tuned", "temperature": 0.0},
    "analyzer_model": "writer",
    "num_iterations": 3,
    "candidates_per_iteration": 2,
    "concurrency": 1,
}


def _zoo() -> Zoo:
    """Its writer writes by what it is asked, so that an undisturbed job and a killed one meet the same texts."""
    return Zoo(
        {"tuned": tuned, "writer": by_question(lambda number: f"Style {number}. worth=0.{number % 60 + 40}")}
    )


def _order(child: Child, zoo: Zoo, *, attempt: int) -> Child:
    models = [asdict(ModelEndpoint(name, zoo.url, name, max_concurrency=1)) for name in ("tuned", "writer")]
    return child.order(job_type="prompt_tuning", attempt=attempt, parameters=PARAMETERS, models=models)


def _told(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result["outcome"].items() if key not in OF_THE_RUN}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, bytes], int]:
    """What an undisturbed job tells, its files, and its calls."""
    folder = tmp_path_factory.mktemp("undisturbed") / "workspace"
    with _zoo() as zoo:
        child = Child(folder)
        result = _order(child, zoo, attempt=1).result()
        child.close()
        return _told(result), {name: (folder / "output" / name).read_bytes() for name in FILES}, zoo.total


@pytest.mark.parametrize("share", [0.4, 0.85])
def test_killed_anywhere_only_the_call_in_flight_is_paid_for_again(
    start_child: Start, tmp_path: Path, undisturbed: tuple[dict[str, Any], dict[str, bytes], int], share: float
) -> None:
    """In the search, in the test."""
    told, files, total = undisturbed
    folder = tmp_path / "workspace"
    answered = int(total * share)

    with _zoo() as zoo:
        zoo.close_gate(after=answered)
        child = _order(start_child(folder), zoo, attempt=1)
        zoo.wait_for_calls(answered + 1)
        child.signal(signal.SIGKILL)
        child.wait()
        zoo.open_gate()
        result = _order(start_child(folder), zoo, attempt=2).result()

        assert "done" == result["status"], json.dumps(result)
        assert total + 1 == zoo.total
    assert told == _told(result)
    assert files == {name: (folder / "output" / name).read_bytes() for name in FILES}
