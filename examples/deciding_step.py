"""
The demo's last two jobs: a poor prompt is tuned for the local chat model, and two settings of it are compared.

The model is far too small to write prompts, so the candidates are drafts that a person wrote. Which of them is good
is for the search to find; whether it is better than the prompt as it was, for a test on reviews that it never saw.
"""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

POOR: Final = "{input}\n\nIs this review positive or negative?"
DRAFTS: Final = (
    "{input}\n\nPositive or negative?",
    "Is this review positive or negative? Answer with one word.\n\nReview: {input}",
    "{input}\n\nIs this review positive or negative? Answer with one word.",
    "Is this review positive or negative?\n\n{input}",
)
ANSWER: Final = {"max_tokens": 8, "stop": [".", ",", "\n"]}
IS_RIGHT: Final = [{"kind": "label", "labels": ["positive", "negative"]}]


def tuning(rows: list[Any]) -> dict[str, Any]:
    """Parameters of the job `prompt_tuning` over *rows*."""
    return {
        "items": rows,
        "prompt": [{"role": "user", "content": POOR}],
        "target": {"model": "local", "temperature": 0, **ANSWER},
        "evaluators": IS_RIGHT,
        "drafts": list(DRAFTS),
        "num_iterations": 2,
        "candidates_per_iteration": 2,
        "concurrency": 2,
    }


def backtest(rows: list[Any], prompt: list[Any]) -> dict[str, Any]:
    """Parameters of the job `model_backtesting`: the model as creative as many set it, and at temperature 0."""
    return {
        "items": rows,
        "current_model": "temperature 0.7",
        "models": ["temperature 0"],
        "settings": {
            "temperature 0.7": {"model": "local", "temperature": 0.7, "seed": 1},
            "temperature 0": {"model": "local", "temperature": 0},
        },
        "prompt": {"messages_template": prompt, **ANSWER},
        "evaluators": IS_RIGHT,
        "concurrency": 2,
    }


def show_tuning(say: Console, record: dict[str, Any]) -> None:
    """What was tried, and accuracy before and after on rows that the search never saw."""
    used = record["result"]["data_sources_used"]
    tried = Table("candidate", "right", "status", "why", title_justify="left", title_style="bold",
                  title=f"The search, on {used['validation']} reviews that it chooses by")  # fmt: skip
    for step in record["iterations"]:
        if step["iteration_name"] != "holdout":
            tried.add_row(step["iteration_name"], f"{step['avg_score']:.1f}%", step["status"], step["description"])
    say.print()
    say.print(tried)
    test = record["result"]["test"]
    say.print()
    if test is None:
        say.print(record["result"]["changes_summary"], markup=False)
        return
    table = Table("prompt", "right", "95 %", title_justify="left", title_style="bold",
                  title=f"{test['compared']} reviews that the search never saw")  # fmt: skip
    for name, side in (("as it was", "baseline"), ("the best candidate", "candidate")):
        table.add_row(name, f"{test[side]:.1%}", _span(test[f"{side}_interval_95"]))
    say.print(table)
    say.print(record["result"]["changes_summary"], markup=False)


def show_backtest(say: Console, record: dict[str, Any]) -> None:
    """The verdict, and what it is made of."""
    found = record["backtest_results"]
    models = {
        found["recommendations"]["current_model"]["name"]: found["baseline_metrics"],
        **{name: one["aggregate_metrics"] for name, one in found["model_results"].items()},
    }
    table = Table("setting", "right", "95 %", "p50", "p95", title="Two settings", title_justify="left",
                  title_style="bold")  # fmt: skip
    for name, one in models.items():
        latency = one["latency_ms"]
        table.add_row(
            name,
            f"{one['avg_eval_score']:.1%}",
            _span(one["interval"]),
            *(f"{latency[key]['value']:.0f} ms" for key in ("p50", "p95")),
        )
    say.print()
    say.print(table)
    say.print(f"[bold]{found['decision']['verdict']}[/bold]: {found['recommendations']['summary']}")


def _span(ends: list[float] | None) -> str:
    return f"{ends[0]:.1%} to {ends[1]:.1%}" if ends else ""
