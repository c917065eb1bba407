"""
The demo's third job: answers made elsewhere are scored, by rules and by the local chat model as a judge.

Every second answer is wrong on purpose, and a label says which: so it can be measured how far the judge is to be
believed. A model this small is not.
"""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

# Each takes the small model some two seconds.
JUDGED_ROWS: Final = 10
OTHER: Final = {"positive": "negative", "negative": "positive"}


def answers(rows: list[Any]) -> list[dict[str, Any]]:
    """An outputs file: for each review an answer, what was expected, and whether people call it right."""
    return [
        {
            "id": row["id"],
            "input": f"Is this review positive or negative? {row['input']}",
            "output": row["expected_output"] if place % 2 == 0 else OTHER[row["expected_output"]],
            "expected_output": row["expected_output"],
            "is_right": place % 2 == 0,
        }
        for place, row in enumerate(rows)
    ]


def parameters(rows: list[Any]) -> dict[str, Any]:
    """Of the job `judge_scoring` over *rows*."""
    return {
        "items": [{key: value for key, value in row.items() if key != "expected_output"} for row in rows],
        "evaluators": [{"kind": "regex", "name": "is a label", "pattern": "positive|negative", "full": True}],
        "judge": {
            "models": ["local"],
            "answer": "word",
            "response_format": "json_schema",
            "criteria": ["The output is the right answer to the input."],
            "pass_threshold": 0.5,
            "max_tokens": 24,
            "max_items": JUDGED_ROWS,
        },
        "labels": {"fields": ["is_right"]},
        "concurrency": 2,
    }


def show(say: Console, result: dict[str, Any]) -> None:
    """The scores, and how far the judge is to be believed."""
    table = Table("evaluator", "mean", "rows", title="Scores", title_justify="left", title_style="bold")
    for name, one in result["evaluators"].items():
        mean = "–" if one["mean"] is None else f"{one['mean']:.2f}"  # noqa: RUF001  # a dash is meant
        table.add_row(name, mean, f"{one['scored']} of {one['total']}")
    say.print()
    say.print(table)
    say.print(
        f"The judge is shown {JUDGED_ROWS} rows, drawn from all: the small model takes some two seconds for each."
    )
    found = result["agreement"]
    right = found.get("raw_agreement")
    if right is None:
        say.print("The judge said nothing that could be compared with the labels.")
        return
    kappa, span = found["cohens_kappa"], found["kappa_interval_95"]
    beyond = "not defined: one of them says one thing throughout"
    if kappa is not None:
        beyond = f"{kappa:.2f}" + (f" (95 %: {span[0]:.2f} to {span[1]:.2f})" if span and span[0] < span[1] else "")
    say.print(f"The judge agrees with the labels on {right:.0%} of {found['compared']} rows;")
    say.print(f"one that always says yes would agree on {found['label_pass_rate']:.0%}.")
    say.print(f"Agreement beyond chance (Cohen's kappa): {beyond}.")
    if kappa is None or span is None or span[0] <= 0:
        say.print("[bold]That is chance: do not go by the scores of a model this small.[/bold]")
