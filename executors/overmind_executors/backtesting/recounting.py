"""The figures of a finished job made again from its result files alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from overmind_executors.backtesting.figures import ROWS, figures_of
from overmind_executors.backtesting.parameters import BacktestingParameters
from overmind_executors.backtesting.report import PARETO, pareto_svg, report_of
from overmind_executors.backtesting.rule import Reason
from overmind_executors.report import rendered

SUMMARY: Final = "summary.json"


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The figures as `summary.json` in *folder* says them, and the same ones made again from its lines.

    Returns:
        Two objects with the same keys, the SHA-256 of each report and picture among them, which are equal if and
        only if summary, reports and picture are true to the lines.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    task = BacktestingParameters.model_validate(summary["task"])
    guards = {name: frozenset(map(Reason, reasons)) for name, reasons in summary["guards"].items()}
    again = json.loads(json.dumps(figures_of(folder / ROWS, task, guards)))
    said = {key: summary.get(key) for key in again}
    facts = {**summary, **again}
    texts = dict(rendered(report_of(facts, task, folder / ROWS)))
    if svg := pareto_svg(facts):
        texts[PARETO] = svg.encode()
    for name, content in texts.items():
        again[name] = hashlib.sha256(content).hexdigest()
        said[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return said, again
