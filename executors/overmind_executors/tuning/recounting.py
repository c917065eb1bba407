"""The verdict of a finished job made again from its result files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors.tuning.promotion import Verdict, decide
from overmind_executors.tuning.sealed import Registration

COMPARISON: Final = "comparison.jsonl"
SUMMARY: Final = "summary.json"


def verdict_of(lines: Sequence[Mapping[str, Any]], registration: Registration) -> Verdict:
    """What *lines* of `comparison.jsonl` say."""
    sides = [[[trial["value"] for trial in line[side]] for line in lines] for side in ("baseline", "candidate")]
    return decide(sides[0], sides[1], [line["group"] for line in lines], registration)


def recounted(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """
    The test as `summary.json` in *folder* says it, and the same made again from `comparison.jsonl`.

    Returns:
        Two equal objects if and only if the summary is true to the lines; None twice when nothing was tested.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    if summary["test"] is None or not (folder / COMPARISON).exists():
        return summary["test"], None
    lines = [json.loads(line) for line in (folder / COMPARISON).read_text(encoding="utf-8").splitlines()]
    again = verdict_of(lines, Registration(**summary["registration"]))
    return summary["test"], again.as_json()
