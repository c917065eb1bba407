"""The figures of a finished job made again from its result files alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from overmind_executors.judge_scoring.drift import ANCHOR_FILE, drift_figures
from overmind_executors.judge_scoring.embedding import EMBEDDING_FILE, embedding_figures, usage_with
from overmind_executors.judge_scoring.figures import canary_figures, figures_of
from overmind_executors.judge_scoring.lines import CANARY_FILE, SCORES, result_lines
from overmind_executors.judge_scoring.parameters import JudgeScoringParameters
from overmind_executors.judge_scoring.report import report_of
from overmind_executors.report import rendered

SUMMARY: Final = "summary.json"


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The figures as `summary.json` in *folder* says them, and the same ones made again from its lines.

    Returns:
        Two objects with the same keys, the SHA-256 of each report among them, which are equal if and only if
        summary and reports are true to the lines.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    task = JudgeScoringParameters.model_validate(summary["task"])
    again = figures_of(folder / SCORES, task) | {
        "canaries": canary_figures(result_lines(folder, CANARY_FILE)),
        "drift": drift_figures(result_lines(folder, ANCHOR_FILE)),
        "embeddings": embedding_figures(result_lines(folder, EMBEDDING_FILE)),
    }
    # What only the journal of paid calls knows stands as it is.
    again["usage"] = {**summary["usage"], **usage_with(again["usage"], again["embeddings"])}
    reports = rendered(report_of({**summary, **again}))
    said = {key: summary.get(key) for key in again}
    said |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in reports}
    return said, again | {name: hashlib.sha256(content).hexdigest() for name, content in reports.items()}
