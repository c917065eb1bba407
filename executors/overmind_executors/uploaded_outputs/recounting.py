"""The data card and the report of a finished job made again from its rows alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from overmind_executors import strict_json
from overmind_executors.report import rendered
from overmind_executors.uploaded_outputs.data_card import data_card
from overmind_executors.uploaded_outputs.outcome import CARD, report_of


def recounted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    What the files in *folder* say, and the same made again from its rows.

    Returns:
        Two objects with the same keys: the figures of the data card, and the SHA-256 of each report. Equal if and
        only if card and reports are true to the rows.
    """
    card = data_card(folder)
    reports = rendered(report_of(card))
    again = card | {name: hashlib.sha256(content).hexdigest() for name, content in reports.items()}
    said = strict_json.loads((folder / CARD).read_bytes())
    said |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in reports}
    # Through JSON, so that both are what a reader of the file sees.
    return said, strict_json.loads(strict_json.dumps(again))
