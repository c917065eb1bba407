"""Which sandbox the programs of jobs get on this host."""

from __future__ import annotations

from overmind_config.settings import Settings
from overmind_executors.sandbox.deciding import decide
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
    return decide(given.use, wanted) if has_programs(settings) else wanted
