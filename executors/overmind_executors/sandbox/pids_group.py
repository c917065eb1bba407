"""
A limit on processes that holds for root, too: a group of the kernel's controller `pids`.

For another user the kernel's own limit on processes is enough: in a sandbox it counts that sandbox's alone. Root is
exempt from it, and watching from outside comes too late: a program that forks without end starves whoever watches.

Source:
    getrlimit(2): RLIMIT_NPROC; the kernel's documentation of cgroup v1 (`pids`) and v2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_MOUNTED: Final = Path("/sys/fs/cgroup")
_PREFIX: Final = "overmind-program-"


def is_needed() -> bool:
    """Whether we are root."""
    return os.geteuid() == 0


def home(mounted: Path = _MOUNTED) -> Path | None:
    """The folder in which groups can be made here; None when there is none."""
    first = mounted / "pids"
    if (first / "cgroup.procs").exists():
        return first if os.access(first, os.W_OK) else None
    try:
        controllers = (mounted / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return None
    return mounted if "pids" in controllers and os.access(mounted, os.W_OK) else None


def sweep(folder: Path) -> None:
    """Remove what jobs' processes that were killed have left: groups without a process, whose maker is gone."""
    for group in folder.glob(f"{_PREFIX}*"):
        maker = group.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", maker).exists():
            with suppress(OSError):
                group.rmdir()


@contextmanager
def joined(pid: int, most: int, folder: Path) -> Iterator[None]:
    """
    Hold *pid* and what it starts to *most* processes and threads, until all of them have ended.

    Raises:
        OSError: the group cannot be made.
    """
    group = folder / f"{_PREFIX}{os.getpid()}-{pid}"
    group.mkdir()
    try:
        (group / "pids.max").write_text(str(most), encoding="ascii")
        (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield
    finally:
        with suppress(OSError):
            group.rmdir()
