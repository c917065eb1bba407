"""Judging that is killed: no answer is paid for twice, and the result is that of an undisturbed job."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from child_process import Child

from overmind_executors.contract import ModelEndpoint
from zoo import Zoo
from zoo_judges import RubricJudge, draw

Start = Callable[..., Child]
ROWS, AT_ONCE = 70, 4
OF_THE_CLOCK = {"latency_ms"}
OF_THE_RUN = {"latency_ms", "calling_s", "resumed_calls", "usage", "report_markdown"}
ITEMS = [
    {"id": f"r{n}", "output": f"{'fine' if draw(n) < 0.6 else 'poor'} {n}", "human": draw(n) < 0.6}
    for n in range(ROWS)
]
PARAMETERS: dict[str, Any] = {
    "items": ITEMS,
    "judge": {"models": ["noisy"], "criteria": ["It is fine."], "pass_threshold": 0.5},
    "labels": {"fields": ["human"]},
    "evaluators": [{"kind": "contains", "value": "fine"}],
}


def _zoo() -> Zoo:
    return Zoo({"noisy": RubricJudge("noisy", sensitivity=0.8, specificity=0.8)})


def _order(child: Child, zoo: Zoo, *, attempt: int) -> Child:
    model = asdict(ModelEndpoint("noisy", zoo.url, "noisy", max_concurrency=AT_ONCE))
    return child.order(job_type="judge_scoring", attempt=attempt, parameters=PARAMETERS, models=[model])


def _scores(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "output/scores.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in OF_THE_CLOCK} for line in lines]


def _facts(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result["outcome"].items() if key not in OF_THE_RUN}


def test_killed_at_57_per_cent_only_the_rows_in_flight_are_paid_for_again(
    start_child: Start, tmp_path: Path
) -> None:
    with _zoo() as undisturbed:
        expected = _order(start_child(tmp_path / "undisturbed"), undisturbed, attempt=1).result()
    folder = tmp_path / "workspace"
    answered = ROWS * 57 // 100

    with _zoo() as zoo:
        zoo.close_gate(after=answered)
        child = _order(start_child(folder), zoo, attempt=1)
        zoo.wait_for_calls(answered + 1)
        child.signal(signal.SIGKILL)
        child.wait()
        zoo.open_gate()
        result = _order(start_child(folder), zoo, attempt=2).result()

        assert zoo.total <= ROWS + AT_ONCE
        assert zoo.total <= result["outcome"]["usage"]["model_calls"] <= ROWS + AT_ONCE
    assert _scores(tmp_path / "undisturbed") == _scores(folder)
    assert _facts(expected) == _facts(result)
    assert result["outcome"]["resumed_calls"] >= answered - AT_ONCE
