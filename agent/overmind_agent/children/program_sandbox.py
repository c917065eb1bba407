"""Which sandbox the programs of jobs get on this host."""

from __future__ import annotations

from overmind_config.settings import Settings
from overmind_executors.sandbox.deciding import decide, what_is_missing
from overmind_executors.sandbox.levels import Sandbox


def has_programs(settings: Settings) -> bool:
    """Whether there is anything for a sandbox to hold."""
    given = settings.functions
    return bool(given.modules or given.commands or given.code_roots)


def sandbox_of(settings: Settings) -> Sandbox:
    """
    What `settings.sandbox` comes to on this host.

    Starts a program in bubblewrap to see whether that works, unless there are no programs, or nobody asks for it.
    """
    given = settings.sandbox
    wanted = Sandbox(
        reads=given.reads,
        exempt=frozenset(given.exempt),
        memory_bytes=given.memory_bytes,
        processes=given.processes,
        disk_bytes=given.disk_bytes,
    )
    if not has_programs(settings):
        return wanted
    return decide(given.use, wanted, missing=lambda sandbox: _shown(settings) or what_is_missing(sandbox))


def _shown(settings: Settings) -> str:
    """What of ours `sandbox.reads` would show to programs; empty for nothing."""
    keys = [settings.control_plane.token_file, *(model.api_key_file for model in settings.models.values())]
    for ours in (settings.agent.state_dir, *keys):
        for folder in settings.sandbox.reads:
            if ours is not None and ours.resolve().is_relative_to(folder.resolve()):
                return f"sandbox.reads has {folder}, and {ours} lies in it; name only what programs need"
    return ""
