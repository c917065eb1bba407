"""
The demo's second job: answers that were made elsewhere, in a table with names of its own, are taken in.

The table stays on the agent's host. Some of its rows are wrong on purpose: a review that does not exist, one that
was answered twice, one without an answer, and one that is missing.
"""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

# Files of the host, by their names in its data_roots.
PARAMETERS: Final[dict[str, Any]] = {
    "path": "outputs.csv",
    "dataset_path": "reviews.jsonl",
    "mapping": {"id": "review_id"},  # what model_answer is needs no telling
    "on_duplicate": "first",
}


def show(say: Console, result: dict[str, Any]) -> None:
    """What was taken in, what was not and why, and what these rows can show."""
    table = Table("figure", "value", title="Outputs taken in", title_justify="left", title_style="bold")
    read_as = ", ".join(f"{guess['column']} is the {guess['field']}" for guess in result["source"]["columns"])
    table.add_row("read as", f"{result['source']['format']}; {read_as}")
    table.add_row(
        "rows", f"{result['rows_accepted']} of {result['rows_total']} accepted, bound by {result['bound_by']}"
    )
    for code, count in result["rejected_by_code"].items():
        table.add_row("rejected", f"{count} x {code}")
    table.add_row("covered", f"{result['datapoints_covered']} of {result['datapoints_total']} reviews")
    gain = result["smallest_gain"][0]
    table.add_row(
        "can show",
        f"a gain of {100 * gain['by_spread']['0.5']:.0f} points or more, by {gain['rows']} rows at a spread of 0.5",
    )
    say.print()
    say.print(table)
