"""`overmind-agent check`: the doctor's findings, as a table for people or as JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from overmind_agent import cli
from overmind_agent.doctor import Doctor, Finding
from overmind_agent.http_calls import HttpCalls
from overmind_config.load import load
from overmind_config.problems import SettingsError
from overmind_config.settings import Settings

STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def check(flags: Mapping[str, Any], *, config: Path | None, as_json: bool) -> int:
    """Examine this host; 0 when nothing failed, else 78 for the configuration and 69 for anything else."""
    try:
        settings = load(flags, config=config).settings
    except SettingsError as error:
        found = [
            Finding("configuration", "failed", f"{problem.where}: {problem.what}", problem.remedy)
            for problem in error.problems
        ]
        _show(found, as_json=as_json)
        return cli.CONFIG
    found = [Finding("configuration", "ok", "complete"), *_examine(settings)]
    _show(found, as_json=as_json)
    return cli.UNAVAILABLE if any(finding.grade == "failed" for finding in found) else cli.OK


def _examine(settings: Settings) -> Sequence[Finding]:
    plane = settings.control_plane
    token = plane.token.get_secret_value() if plane.token else ""
    calls = HttpCalls(plane.url, lambda: token, ca_file=plane.ca_file, proxy=plane.proxy)
    try:
        return list(Doctor(settings, calls).findings())
    finally:
        calls.close()


def _show(found: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        is_ready = not any(finding.grade == "failed" for finding in found)
        print(json.dumps({"ready": is_ready, "checks": [asdict(f) for f in found]}))  # noqa: T201 - the result
        return
    table = Table("check", "", "found", box=None, pad_edge=False)
    for finding in found:
        message = Text(finding.message)
        if finding.hint:
            message.append(f"\n→ {finding.hint}", style="italic")
        table.add_row(finding.code, Text(finding.grade, style=STYLES[finding.grade]), message)
    Console(file=sys.stdout).print(table)
