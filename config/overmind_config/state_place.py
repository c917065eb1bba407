"""Where the state folder is, and nothing else: for commands that have no time to read all of the configuration."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from overmind_config.toml_file import NoConfiguration, text_of

PREFIX: Final = "OVERMIND_AGENT_"
CONFIG_VARIABLE: Final = "OVERMIND_AGENT_CONFIG"
DEFAULT_CONFIG: Final = Path("/etc/overmind-agent/agent.toml")
DEFAULT_STATE: Final = Path("/var/lib/overmind-agent")
USER_STATE: Final = "~/.local/state/overmind-agent"


def state_dir(
    flag: str | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """
    `agent.state_dir`, as `load` would find it. A configuration that cannot be read counts as one without it.

    Args:
        flag: from the command line, None when it was not given.
        config: the file from the command line.
        environ: the process's own environment when None.
    """
    environ = os.environ if environ is None else environ
    found = flag or _variable(environ) or _in_file(config, environ)
    found = found or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not found:
        found = str(DEFAULT_STATE) if os.geteuid() == 0 else USER_STATE
    return Path(found).expanduser().absolute()


def _variable(environ: Mapping[str, str]) -> str | None:
    names = (name for name in sorted(environ) if name.startswith(PREFIX) and environ[name])
    return next((environ[name] for name in names if name.removeprefix(PREFIX).lower() == "agent__state_dir"), None)


def _in_file(config: Path | None, environ: Mapping[str, str]) -> str | None:
    file = config or Path(environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    try:
        found: Any = tomllib.loads(text_of(file))["agent"]["state_dir"]
    except (NoConfiguration, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(found, str) or not found or "\0" in found:
        return None
    return found if found.startswith("~") else str(file.absolute().parent / found)
