"""
A small job of each type, whose models follow a rule: the same job makes the same files whenever it is run.

What a clock says, how often a life began and which id the job has differs between two undisturbed jobs, too:
`comparable` leaves it out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import Model, sentiment
from zoo_judges import RubricJudge, draw
from zoo_writers import by_question, rows, tuned

OF_THE_RUN = frozenset(
    {"latency_ms", "started_at", "mean_ms", "p50_ms", "p95_ms", "pareto", "calling_s", "resumed_calls",
     "resumed_rows", "resumed_steps", "report_markdown", "fastest", "avg_latency_ms", "rows_per_s",
     "latency_delta_ms", "latency_delta_pct"}
)  # fmt: skip
# Made of the job's id.
OF_THE_JOB = frozenset({"comparison_id", "test_run_id", "attempt"})
LEFT_OUT = OF_THE_RUN | OF_THE_JOB | {"model_calls"}


@dataclass(frozen=True)
class SmallJob:
    """
    Attributes:
        models: in the zoo, by name.
        pictures: files that show latencies, or follow from the job's id.
    """

    job_type: str
    parameters: Mapping[str, Any]
    models: Mapping[str, Model] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()


def _knows(name: str, share: float) -> Model:
    return lambda messages: "fine" if draw(name, messages[-1]["content"]) < share else "poor"


INFERENCE = SmallJob(
    "inference",
    {
        "items": [
            {"id": f"row-{n}", "input": f"{said}, says buyer {n}", "expected_output": label}
            for n, (said, label) in enumerate([("I love it", "positive"), ("It broke", "negative")] * 2)
        ],
        "target": {
            "kind": "model",
            "model": "local",
            "system_prompt": "positive or negative? one word",
            "temperature": 0,
        },
        "comparison": {"kind": "label"},
        "concurrency": 1,
    },
    {"local": sentiment},
)
UPLOADED_OUTPUTS = SmallJob(
    "uploaded_outputs_setup",
    {
        "items": [{"id": f"r{n}", "output": f"answer {n}"} for n in range(1, 6)],
        "dataset": [{"id": f"r{n}", "input": f"question {n}"} for n in range(5)],
    },
)
JUDGE_SCORING = SmallJob(
    "judge_scoring",
    {
        "items": [{"id": f"r{n}", "input": "q", "output": f"{'fine' if n % 4 else 'poor'} {n}"} for n in range(4)],
        "judge": {"models": ["judge"], "criteria": ["It is fine."], "pass_threshold": 0.5},
        "evaluators": [{"kind": "json_schema_valid", "schema": {}}],
        "concurrency": 1,
    },
    {"judge": RubricJudge()},
)
PROMPT_TUNING = SmallJob(
    "prompt_tuning",
    {
        "items": rows(16),
        "prompt": "Say right or wrong. worth=0.3",
        "target": {"model": "tuned", "temperature": 0.0},
        "analyzer_model": "writer",
        "num_iterations": 1,
        "candidates_per_iteration": 2,
        "examples_per_candidate": 2,
        "concurrency": 1,
    },
    {"tuned": tuned, "writer": by_question(lambda number: f"Style {number}. worth=0.{number % 30 + 70}")},
)
MODEL_BACKTESTING = SmallJob(
    "model_backtesting",
    {
        "items": [{"id": f"r{n}", "input": f"question {n}"} for n in range(14)],
        "current_model": "old",
        "models": ["good", "bad"],
        "evaluators": [{"kind": "contains", "value": "fine"}],
        "racing": {"first_rows": 10, "alpha": 0.05},
        "concurrency": 1,
    },
    {name: _knows(name, share) for name, share in {"old": 0.5, "good": 1.0, "bad": 0.0}.items()},
    ("report.html", "report.md", "pareto.svg"),
)


def timeless(value: Any) -> Any:
    """*value* without what a clock said, and how many calls were made."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in LEFT_OUT}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def comparable(files: Mapping[str, bytes], pictures: tuple[str, ...], *, is_exact: bool = True) -> dict[str, Any]:
    """
    What two jobs must have in common, by file name.

    Args:
        pictures: files to leave out.
        is_exact: also reports, which say how many calls were made.
    """
    found: dict[str, Any] = {}
    for name, content in sorted(files.items()):
        if name in pictures or name == "manifest.json":
            continue
        if name.endswith((".json", ".jsonl")):
            found[name] = [timeless(json.loads(line)) for line in content.splitlines()]
        elif is_exact or not name.startswith("report"):
            found[name] = [line for line in content.splitlines() if b"milliseconds" not in line]
    return found


def in_flight(state: Path) -> int:
    """Calls that the job with that folder sent, and whose answer is not on disk: it may have been paid for."""
    journal = state / "paid_calls.sqlite"
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM call WHERE state = 'sent'").fetchone()[0])
        except sqlite3.OperationalError:  # killed before there was a table
            return 0
