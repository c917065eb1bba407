"""`overmind-agent check`: the doctor's findings, as a table for people or as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from overmind_agent.command_line import exit_codes
from overmind_agent.command_line.doctor import Doctor
from overmind_agent.command_line.findings import Finding
from overmind_agent.configuration import checked as configuration
from overmind_agent.control import showing
from overmind_agent.control.plain_text import one_line
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.planes import network_of
from overmind_config.problems import SettingsError
from overmind_config.settings import Settings

EXIT_CODES: Final = {
    "state_dir": exit_codes.CANT_CREATE,
    "journal": exit_codes.CANT_CREATE,
    "token": exit_codes.NO_PERMISSION,
}
STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def check(flags: Mapping[str, Any], *, config: Path | None, as_json: bool) -> int:
    """Examine this host; 0 when nothing failed, else the code that `run` would most likely end with."""
    try:
        settings = configuration.read(flags, config)
    except SettingsError as error:
        found = [
            Finding("configuration", "failed", f"{problem.where}: {problem.what}", problem.remedy)
            for problem in error.problems
        ]
        _show(found, as_json=as_json)
        return exit_codes.CONFIG
    found = [Finding("configuration", "ok", "complete"), *examine(settings)]
    _show(found, as_json=as_json)
    failed = {finding.code for finding in found if finding.grade == "failed"}
    return next(
        (code for name, code in EXIT_CODES.items() if name in failed),
        exit_codes.UNAVAILABLE if failed else exit_codes.OK,
    )


def examine(settings: Settings) -> Sequence[Finding]:
    """What all checks find on a host with *settings*."""
    plane = settings.control_plane
    token = plane.token.get_secret_value() if plane.token else ""
    with closing(HttpCalls(plane.url, lambda: token, network=network_of(plane))) as calls:
        return list(Doctor(settings, calls).findings())


def _show(found: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        is_ready = not any(finding.grade == "failed" for finding in found)
        print(json.dumps({"ready": is_ready, "checks": [asdict(f) for f in found]}))  # noqa: T201 - the result
        return
    table = Table("check", "grade", "found", box=None, pad_edge=False)
    for finding in found:
        message = Text(one_line(finding.message))
        if finding.hint:
            message.append(f"\n→ {finding.hint}", style="italic")
        table.add_row(finding.code, Text(finding.grade, style=STYLES[finding.grade]), message)
    showing.put(table)
