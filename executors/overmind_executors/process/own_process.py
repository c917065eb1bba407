"""
What a child process asks of the kernel about itself.

Source:
    prctl(2): PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36


def die_with(parent: int) -> bool:
    """Be killed when the parent dies; False when it has died already, which the kernel would not tell us."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def leave_no_core() -> None:
    """No image of the memory, which has keys in it, on any disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def adopt_orphans() -> None:
    """Become the parent of what our descendants leave behind, so that whoever ends them can wait for them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide(is_hidden: bool = True) -> None:
    """Let no other process of this user look into this one, and into what it forks."""
    _prctl(_PR_SET_DUMPABLE, 0 if is_hidden else 1)


# Opened once, before a nursery forks.
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
