"""The figures and the reports of a function's job made again from the files that it made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from overmind_executors import report
from overmind_executors.functions.account import facts_of_file, names_in, outputs_of, report_of
from overmind_executors.result_files import MANIFEST


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    What the summary in *folder* says of the outputs, and the same from the files themselves.

    What only the host saw, such as the exit code and the seconds, stands as it is, and so do the inputs.

    Returns:
        Two objects with the same keys, the SHA-256 of each report among them, which are equal if and only if
        summary and reports are true to the files.

    Raises:
        ValueError: an output is called by something else than a plain name.
    """
    summary_name, *report_names = names_in(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    summary = json.loads((folder / summary_name).read_text(encoding="utf-8"))
    again = outputs_of([one | facts_of_file(_inside(folder, one["name"])) for one in summary["outputs"]])
    said = {name: summary[name] for name in again}
    reports = report.rendered(report_of({**summary, **again}))
    for name, content in zip(report_names, reports.values(), strict=True):
        again[name] = hashlib.sha256(content).hexdigest()
        said[name] = facts_of_file(_inside(folder, name))["sha256"]
    return said, again


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"{name[:64]!r} is not the name of a file")
    return folder / name
