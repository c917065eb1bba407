"""The configuration of this host, checked against what is installed on it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overmind_config.load import load
from overmind_config.problems import Problem, SettingsError
from overmind_config.settings import Settings
from overmind_executors import registry


def read(flags: Mapping[str, Any], config: Path | None) -> Settings:
    """
    The settings, from all their places.

    Raises:
        SettingsError: names every problem; also a job type that no installed executor does, for an agent that can
            do nothing would only stand in the way of those that can.
    """
    loaded = load(flags, config=config)
    known = registry.job_types()
    problems = [
        Problem(
            f"agent.job_types ({loaded.origins.get('agent.job_types', 'default')})",
            f"no executor is installed for {name!r}{_nearest(name, known)}",
            f"install its package, or choose from {', '.join(known)}",
        )
        for name in loaded.settings.agent.job_types
        if name not in known
    ]
    if not loaded.settings.agent.job_types:
        problems.append(Problem("agent.job_types", "there is none", f"choose from {', '.join(known)}"))
    if problems:
        raise SettingsError(problems)
    return loaded.settings


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
