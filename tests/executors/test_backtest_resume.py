"""A backtest that is killed: no answer is paid for twice, and the decision is that of an undisturbed job."""

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
from zoo_judges import draw

ROWS, AT_ONCE = 30, 3
OF_THE_CLOCK = {"latency_ms", "started_at", "attempts"}
PARAMETERS: dict[str, Any] = {
    "items": [{"id": f"r{n}", "input": f"question {n}"} for n in range(ROWS)],
    "current_model": "old",
    "models": ["good", "bad"],
    "evaluators": [{"kind": "contains", "value": "fine"}],
    "concurrency": AT_ONCE,
    "racing": {"first_rows": 10, "alpha": 0.05},
}


def _knows(name: str, share: float) -> Callable[[list[dict[str, Any]]], str]:
    return lambda messages: "fine" if draw(name, messages[-1]["content"]) < share else "poor"


def _zoo() -> Zoo:
    return Zoo({name: _knows(name, share) for name, share in {"old": 0.4, "good": 0.98, "bad": 0.0}.items()})


def _order(child: Child, zoo: Zoo, *, attempt: int) -> Child:
    models = [
        asdict(ModelEndpoint(n, zoo.url, n, input_price=1.0, output_price=1.0)) for n in ("old", "good", "bad")
    ]
    return child.order(job_type="model_backtesting", attempt=attempt, parameters=PARAMETERS, models=models)


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "output/rows.jsonl").read_text().splitlines()]
    return [
        {**line, "models": {n: {k: v for k, v in c.items() if k not in OF_THE_CLOCK} for n, c in models.items()}}
        for line in lines
        for models in [line["models"]]
    ]


def test_killed_amid_the_race_it_pays_again_for_the_calls_in_flight_alone(
    start_child: Callable[..., Child], tmp_path: Path
) -> None:
    with _zoo() as undisturbed:
        expected = _order(start_child(tmp_path / "undisturbed"), undisturbed, attempt=1).result()
        calls = undisturbed.total
    folder, answered = tmp_path / "workspace", 40

    with _zoo() as zoo:
        zoo.close_gate(after=answered)
        child = _order(start_child(folder), zoo, attempt=1)
        zoo.wait_for_calls(answered + 1)
        child.signal(signal.SIGKILL)
        child.wait()
        zoo.open_gate()
        result = _order(start_child(folder), zoo, attempt=2).result()

        assert calls <= zoo.total <= calls + AT_ONCE
    assert _rows(tmp_path / "undisturbed") == _rows(folder)
    assert "SWITCH" == expected["outcome"]["decision"]["verdict"]
    assert expected["outcome"]["decision"] == result["outcome"]["decision"]
    assert calls < 3 * ROWS
