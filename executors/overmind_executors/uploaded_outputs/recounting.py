"""The data card and the report of a finished job made again from its rows alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from overmind_executors import strict_json
from overmind_executors.report import rendered
from overmind_executors.uploaded_outputs.closer_look import MARKS
from overmind_executors.uploaded_outputs.data_card import data_card
from overmind_executors.uploaded_outputs.lines import line_of
from overmind_executors.uploaded_outputs.outcome import CARD, report_of


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    What the files in *folder* say, and the same made again from its rows.

    Returns:
        Two objects with the same keys: the figures of the data card, and the SHA-256 of each report and of each
        file of marks. Equal if and only if all of them are true to the rows.
    """
    digests = {name: hashlib.sha256() for name in MARKS}
    card = data_card(folder, mark=lambda name, line: digests[name].update(line_of(line)))
    reports = rendered(report_of(card))
    again = card | {name: hashlib.sha256(content).hexdigest() for name, content in reports.items()}
    again |= {name: made.hexdigest() for name, made in digests.items()}
    said = strict_json.loads((folder / CARD).read_bytes())
    said |= {name: _digest(folder / name) for name in (*reports, *MARKS)}
    # Through JSON, so that both are what a reader of the file sees.
    return said, strict_json.loads(strict_json.dumps(again))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
