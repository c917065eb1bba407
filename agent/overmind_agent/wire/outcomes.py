"""What of a job's outcome is told in the fields of its record, too; the rest is for whoever knows the job type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ITERATIONS: Final = "iterations"
"""The key of an outcome whose entries, the steps of a search, are records of their own."""

_FIELDS: Final[Mapping[str, tuple[type, ...]]] = {
    "baseline_score": (int, float),
    "best_score": (int, float),
    "improvement": (int, float),
    "best_agent_code": (str,),
    "report_markdown": (str,),
    "backtest_results": (dict, list),
}


def record_fields(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the record that *outcome* fills; a value of another type than its field has is left out."""
    return {
        name: outcome[name]
        for name, kinds in _FIELDS.items()
        if isinstance(outcome.get(name), kinds) and not isinstance(outcome[name], bool)
    }
