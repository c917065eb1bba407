"""What a host can do and its owner wants: which sandbox programs get, found out by really starting one."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from overmind_executors.contract import ExecutionFailed
from overmind_executors.sandbox import pids_group
from overmind_executors.sandbox.bubblewrap import NoBubblewrap, View, words
from overmind_executors.sandbox.levels import Level, Sandbox
from overmind_executors.sandbox.started import try_out

Use = Literal["auto", "required", "off"]

_INSIDE: Final = "inside"
_TRY_S: Final = 20.0


def what_is_missing(wanted: Sandbox) -> str:
    """
    Why no program can be run in bubblewrap here; empty when one could. Starts one, in a folder that is removed.
    """
    if pids_group.is_needed():
        groups = pids_group.home()
        if groups is None:
            return "nothing limits the processes of root here: no cgroup for pids can be made; use another user"
        pids_group.sweep(groups)
    with tempfile.TemporaryDirectory(prefix="overmind-sandbox-") as folder:
        try:
            box = words(View(), wanted, Path(folder))
        except (NoBubblewrap, ExecutionFailed) as error:
            return str(error)
        line = [*box, "--", sys.executable, "-I", "-S", "-c", f"print({_INSIDE!r})"]
        code, said = try_out(line, timeout_s=_TRY_S)
    return "" if (code, said) == (0, _INSIDE) else f"bwrap ends with {code}: {said or 'it says nothing'}"


def decide(use: Use, wanted: Sandbox, *, missing: Callable[[Sandbox], str] = what_is_missing) -> Sandbox:
    """
    The sandbox for programs of jobs.

    Args:
        use: `auto` takes the best that this host has; `required` takes bubblewrap or refuses programs; `off` has
            programs run with their time limit alone.
        wanted: its limits; the level is found out.
    """
    if use == "off":
        return replace(wanted, level=Level.NONE, why="sandbox.use is off")
    why = missing(wanted)
    level = Level.LIMITS if why else Level.BUBBLEWRAP
    return replace(wanted, level=level, why=why, is_required=use == "required")
