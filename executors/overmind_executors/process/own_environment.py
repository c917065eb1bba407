"""
The environment of this very process, replaced as a whole: for the program, for what it starts, and in `/proc`.

A process that was forked, and not started, still shows in `/proc/PID/environ` what its parent was started with, for
the kernel reads the memory that it filled at the start. So a process that is going to be something else is started
with ROOM, one long variable, and later writes over that memory.

Source:
    proc(5): env_start and env_end in `/proc/PID/stat`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOM: Final = "OVERMIND_ROOM"
ROOM_BYTES: Final = 32 * 1024
# In what follows the name of the program, which is the second field and may contain anything.
_ENV_START, _ENV_END = 50 - 3, 51 - 3


def room() -> dict[str, str]:
    """What the environment has to hold for a process that will replace it."""
    return {ROOM: "." * ROOM_BYTES}


def replace(environment: Mapping[str, str]) -> None:
    """
    Make *environment* that of this process. To be called while it has one thread.

    Raises:
        ValueError: it does not fit into the memory that the first environment took.
    """
    start, end = _place()
    block = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    if len(block) > end - start:
        raise ValueError(f"an environment of {len(block)} bytes, and room for {end - start}")
    os.environ.clear()  # from here on nothing points into that memory any more
    ctypes.memmove(start, block.ljust(end - start, b"\0"), end - start)
    os.environ.update(environment)


def without(*names: str) -> dict[str, str]:
    """The environment of this process but for *names*: for a program that need not know them."""
    return {name: value for name, value in os.environ.items() if name not in names}


def _place() -> tuple[int, int]:
    fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
    return int(fields[_ENV_START]), int(fields[_ENV_END])
