"""The figures of a finished job made again from its result files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from overmind_executors.judge_scoring.figures import canary_figures, figures_of
from overmind_executors.judge_scoring.lines import CANARY_FILE, SCORES
from overmind_executors.judge_scoring.parameters import JudgeScoringParameters

SUMMARY: Final = "summary.json"
# What only the journal of paid calls knows: calls that were made more than once.
_OF_THE_JOURNAL: Final = frozenset({"model_calls"})


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The figures as `summary.json` in *folder* says them, and the same ones made again from its lines.

    Returns:
        Two objects with the same keys, which are equal if and only if the summary is true to the lines.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    task = JudgeScoringParameters.model_validate(summary["task"])
    canaries = folder / CANARY_FILE
    lines = canaries.read_text(encoding="utf-8").splitlines() if canaries.exists() else []
    again = figures_of(folder / SCORES, task) | {"canaries": canary_figures([json.loads(line) for line in lines])}
    return _comparable({key: summary.get(key) for key in again}), _comparable(again)


def _comparable(facts: Mapping[str, Any]) -> dict[str, Any]:
    usage = {key: value for key, value in facts["usage"].items() if key not in _OF_THE_JOURNAL}
    return {**facts, "usage": usage}
