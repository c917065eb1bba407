"""The figures and the reports of a finished job made again from its lines alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from overmind_executors import strict_json
from overmind_executors.inference.figures import Figures
from overmind_executors.inference.output import OUTPUT
from overmind_executors.inference.report import report_of
from overmind_executors.inference.summary import SUMMARY
from overmind_executors.report import rendered


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The figures as `summary.json` in *folder* says them, and the same ones made again from its lines.

    Returns:
        Two objects with the same keys, the SHA-256 of each report among them, which are equal if and only if
        summary and reports are true to the lines.
    """
    summary = strict_json.loads((folder / SUMMARY).read_bytes())
    said_accuracy = summary["accuracy"] or {}
    figures = Figures(repetitions=summary["repetitions"], compared_by=said_accuracy.get("kind", ""))
    with (folder / OUTPUT).open(encoding="utf-8") as lines:
        for line in lines:
            figures.add(json.loads(line))  # our own lines, a hair deeper than strict_json lets in
    facts = strict_json.loads(strict_json.dumps(figures.facts()))
    # What only the journal of paid calls knows, and the price, stand as they are.
    again = {**facts, "usage": {**summary["usage"], **facts["usage"]}}
    reports = rendered(report_of({**summary, **again}))
    said = {key: summary[key] for key in again}
    said |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in reports}
    return said, again | {name: hashlib.sha256(content).hexdigest() for name, content in reports.items()}
