"""
The figures of a finished job, made again from its result files alone.

    python -m overmind_executors.recount FOLDER

FOLDER is where the result files are, `manifest.json` among them. The exit code is 0 when the summary is true to the
lines, 1 when it is not, 64 when the folder is not one of a job that can be counted again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from overmind_executors.result_files import MANIFEST

Recount = Callable[[Path], tuple[Mapping[str, Any], Mapping[str, Any]]]


def _judge_scoring(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    from overmind_executors.judge_scoring.recounting import recounted

    return recounted(folder)


RECOUNTS: Final[Mapping[str, Recount]] = {"judge_scoring": _judge_scoring}
"""By job type: what the summary says, and what the lines say; two objects with the same keys."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count again and say what differs; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    folder = Path(given[0]) if len(given) == 1 else None
    if folder is None or not (folder / MANIFEST).is_file():
        sys.stderr.write(f"usage: python -m overmind_executors.recount FOLDER (with a {MANIFEST})\n")
        return 64
    job_type = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("job_type")
    if job_type not in RECOUNTS:
        sys.stderr.write(f"jobs of type {job_type!r} cannot be counted again; {', '.join(RECOUNTS)} can\n")
        return 64
    said, again = RECOUNTS[job_type](folder)
    wrong = [key for key in said if said[key] != again.get(key)]
    for key in wrong:
        sys.stdout.write(f"{key}: the summary says {said[key]}, the lines say {again.get(key)}\n")
    sys.stdout.write(f"{len(said) - len(wrong)} of {len(said)} figures are those of the lines\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
