"""The configuration of this host, checked against what is installed on it."""

from __future__ import annotations

import difflib
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from overmind_agent.signing.keys import UnusableKey, read_key
from overmind_config.load import load
from overmind_config.problems import Problem, SettingsError
from overmind_config.settings import Settings
from overmind_executors import registry
from overmind_executors.functions.manifest import BadManifest, Function, read_modules

DEFAULT: Final = "default"


def read(flags: Mapping[str, Any], config: Path | None) -> Settings:
    """
    The settings, from all their places.

    Raises:
        SettingsError: names every problem; also a job type that no installed executor does, for an agent that can
            do nothing would only stand in the way of those that can.
    """
    loaded = load(flags, config=config)
    known = registry.job_types()
    origin = loaded.origins.get("agent.job_types", DEFAULT)
    problems = [
        Problem(
            f"agent.job_types ({origin})",
            f"no executor is installed for {name!r}{_nearest(name, known)}",
            f"install its package (an agent that runs sees it after a restart), or choose from {', '.join(known)}",
        )
        for name in loaded.settings.agent.job_types
        if name not in known
    ]
    # A type that nobody asked for by name is left out where its packages are: `usable`.
    problems += [
        Problem(f"agent.job_types ({origin})", f"{name!r} needs more than is installed here", missing)
        for name in loaded.settings.agent.job_types
        if origin != DEFAULT and (missing := registry.missing_for(name))
    ]
    problems += _not_allowed(loaded.settings)
    problems += _hooks(loaded.settings)
    problems += _signatures(loaded.settings)
    if not loaded.settings.agent.job_types and not loaded.settings.functions.modules:
        problems.append(Problem("agent.job_types", "there is none", f"choose from {', '.join(known)}"))
    try:
        read_functions(loaded.settings)
    except BadManifest as error:
        problems.append(Problem("functions.modules", str(error), "correct the manifest, or take the module out"))
    if problems:
        raise SettingsError(problems)
    return loaded.settings


def _not_allowed(settings: Settings) -> list[Problem]:
    """The job types whose executors come from modules that the host's policy does not name."""
    if (allowed := settings.policy.executors) is None:
        return []
    modules = {name: registry.module_of(name) for name in settings.agent.job_types}
    return [
        Problem(
            "policy.executors",
            f"does not name {module}, which the executor for {name!r} comes from",
            f"add it, or take {name!r} out of agent.job_types",
        )
        for name, module in modules.items()
        if module and module not in allowed
    ]


def _signatures(settings: Settings) -> list[Problem]:
    """What keeps this host from checking the signatures of jobs, if it is to do so."""
    policy = settings.policy
    if policy.signatures == "off":
        return []
    problems = []
    if find_spec("joserfc") is None:
        problems.append(
            Problem(
                "policy.signatures", "needs more than is installed here", "pip install 'overmind-agent[signing]'"
            )
        )
    if not policy.signing_keys:
        problems.append(Problem("policy.signing_keys", "there is none to check signatures by", "name a public key"))
    if settings.control_plane.adapter == "overmind-lab":
        what = "Overmind Lab's records have no place for a signature, so every job would be refused"
        problems.append(Problem("policy.signatures", what, 'set it to "off", or use another adapter'))
    for name, path in policy.signing_keys.items():
        try:
            read_key(path, to_sign=False)
        except UnusableKey as error:
            what, _, remedy = str(error).partition("; ")
            problems.append(Problem(f"policy.signing_keys.{name}", what, remedy))
    return problems


def _hooks(settings: Settings) -> list[Problem]:
    """The hooks that cannot be run; a job would fail for each."""
    found = {"hooks.before": settings.hooks.before, "hooks.after": settings.hooks.after}
    return [
        Problem(key, f"{words[0]} is no file that can be run", "make it executable, or take the hook out")
        for key, words in found.items()
        if words and not (Path(words[0]).is_file() and os.access(words[0], os.X_OK))
    ]


def token_place(flags: Mapping[str, Any], config: Path | None) -> str:
    """Where the control plane's token comes from: a variable such as `$OVERMIND_API_KEY`, or a file."""
    loaded = load(flags, config=config, needs_control_plane=False)
    if (variable := loaded.origins.get("control_plane.token")) is not None:
        return f"{variable}, which is taken before any token_file"
    plane = loaded.settings.control_plane
    return f"{plane.token_file} (control_plane.token_file, {loaded.origins.get('control_plane.token_file')})"


def usable(settings: Settings) -> list[str]:
    """The job types of *settings* that this installation can do."""
    known = registry.job_types()
    return [name for name in settings.agent.job_types if name in known and not registry.missing_for(name)]


def read_functions(settings: Settings) -> tuple[Function, ...]:
    """The functions that this host has by manifest. Raises BadManifest."""
    given = settings.functions
    return read_modules(
        given.modules,
        host_os=host_os(),
        timeout_s=given.timeout_s,
        most_output_bytes=given.most_output_bytes,
        credentials=given.credentials,
    )


def host_os() -> str:
    """Such as `Debian GNU/Linux 12`."""
    try:
        found = platform.freedesktop_os_release()
        return f"{found.get('NAME', 'Linux')} {found.get('VERSION_ID', '')}".strip()
    except OSError:
        return platform.system()


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
