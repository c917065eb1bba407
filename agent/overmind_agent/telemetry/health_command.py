"""`overmind-agent health`: for container engines and scripts, so it is quick: no settings are read but one."""

from __future__ import annotations

import json
from pathlib import Path

from overmind_agent.command_line import exit_codes
from overmind_agent.telemetry import health_file
from overmind_config.state_place import state_dir


def health(state: str | None, *, config: Path | None, needs_ready: bool) -> int:
    """
    Print the health of the daemon that works on this state folder, as one line of JSON.

    Args:
        state: the folder, as the flag names it; None for the one that `run` would take.
        needs_ready: whether it is enough that the daemon lives.

    Returns:
        0 when it is well, else 1.
    """
    found = health_file.read(state_dir(state, config))
    print(json.dumps(found))  # noqa: T201 - the result
    return exit_codes.OK if found["ready" if needs_ready else "live"] is True else exit_codes.JOB_FAILED
