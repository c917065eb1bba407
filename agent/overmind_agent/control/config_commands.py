"""`config show`, `config check` and `capabilities`: what this host says of itself, without a daemon."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overmind_agent import __version__
from overmind_agent.command_line import exit_codes
from overmind_agent.configuration import checked as configuration
from overmind_agent.control import showing
from overmind_agent.control.commands import say
from overmind_config.load import Loaded, load
from overmind_config.problems import SettingsError
from overmind_config.settings import Settings
from overmind_config.toml_lines import lines_of
from overmind_executors import registry


def show(options: argparse.Namespace) -> int:
    """Every key with its value; with `--origin` where it comes from."""
    try:
        loaded = _loaded(options)
    except SettingsError as error:
        return _wrong(options, error)
    rows = [(key, value, _place(origin, key, loaded.file)) for key, value, origin in loaded.rows()]
    if options.json:
        keys = [{"key": key, "value": value, "origin": origin} for key, value, origin in rows]
        _tell({"file": str(loaded.file) if loaded.file else None, "keys": keys})
        return exit_codes.OK
    if options.origin:
        short = str(loaded.file.parent) + "/" if loaded.file else ""
        say(f"{loaded.file or 'no file'} was read")
        showing.table(
            ("key", "value", "origin"),
            [(key, value, origin.removeprefix(short)) for key, value, origin in rows],
            folded=("value",),
        )
    else:
        showing.table(("key", "value"), [(key, value) for key, value, _ in rows], folded=("value",))
    return exit_codes.OK


def _place(origin: str, key: str, file: Path | None) -> str:
    """*origin*, and the line where it is a file's."""
    if file is None or origin != str(file):
        return origin
    line = lines_of(file).get(key)
    return f"{origin}:{line}" if line else origin


def check(options: argparse.Namespace) -> int:
    """Whether `run` would accept the configuration; all problems at once."""
    try:
        configuration.read(_flags(options), options.config)
    except SettingsError as error:
        return _wrong(options, error)
    if options.json:
        _tell({"valid": True, "problems": []})
    else:
        print("the configuration is complete")  # noqa: T201 - the result
    return exit_codes.OK


def _wrong(options: argparse.Namespace, error: SettingsError) -> int:
    if options.json:
        _tell({"valid": False, "problems": [asdict(problem) for problem in error.problems]})
    for problem in error.problems:
        say(str(problem))
    return exit_codes.CONFIG


def capabilities(options: argparse.Namespace) -> int:
    """What a job may ask for here."""
    try:
        settings = _loaded(options).settings
        found = _capabilities(settings)
    except SettingsError as error:
        return _wrong(options, error)
    if options.json:
        _tell(found)
        return exit_codes.OK
    missing = [f"{name} ({why})" for name, why in found["missing"].items()]
    rows = [
        ("agent", f"{found['name']}, version {found['version']}"),
        ("host", f"{found['host_os']}, Python {found['python']}, {found['architecture']}"),
        ("processors", str(found["processors"])),
        ("memory", f"{found['memory_bytes']:,} bytes"),
        ("slots", ", ".join([str(found["slots"]), *settings.agent.weights])),
        ("job types", ", ".join(found["job_types"])),
        ("not here", "; ".join(missing)),
        ("functions", ", ".join(found["functions"])),
        ("models", ", ".join(f"{name} ({model})" for name, model in found["models"].items())),
        ("labels", ", ".join(found["labels"])),
    ]
    showing.pairs((word, says or "none") for word, says in rows)
    return exit_codes.OK


def _capabilities(settings: Settings) -> dict[str, Any]:
    types = configuration.usable(settings)
    return {
        "name": settings.agent.name,
        "version": __version__,
        "host_os": configuration.host_os(),
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "slots": settings.agent.slots,
        "weights": dict(settings.agent.weight_of),
        "job_types": types,
        "missing": {
            name: registry.missing_for(name) or "no executor of that name is installed"
            for name in settings.agent.job_types
            if name not in types
        },
        "functions": {
            function.name: function.module_version for function in configuration.read_functions(settings)
        },
        "models": {name: model.model for name, model in settings.models.items()},
        "labels": list(settings.agent.labels),
    }


def _loaded(options: argparse.Namespace) -> Loaded:
    return load(_flags(options), config=options.config, needs_control_plane=False)


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if "." in name}


def _tell(document: dict[str, Any]) -> None:
    print(json.dumps(document))  # noqa: T201 - the result
