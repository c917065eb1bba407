"""
How often the kernel has killed a process of this service for want of memory.

Source:
    Linux, Documentation/admin-guide: cgroup-v2.rst (`memory.events`), cgroup-v1/memory.rst (`memory.oom_control`).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

OWN_GROUPS: Final = Path("/proc/self/cgroup")
ROOT: Final = Path("/sys/fs/cgroup")


def memory_kills(own_groups: Path = OWN_GROUPS, root: Path = ROOT) -> int | None:
    """The kernel's count for our control group, which our children share; None where it cannot be read."""
    with suppress(OSError, ValueError):
        for line in own_groups.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            tree, name = (root / "memory", "memory.oom_control") if controllers else (root, "memory.events")
            # In a container the group's own folder is where the root of the tree seems to be.
            found = _count(tree / group.lstrip("/") / name, tree / name)
            if found is not None:
                return found
    return None


def _count(*files: Path) -> int | None:
    for file in files:
        with suppress(OSError, ValueError):
            facts = dict(line.split(" ", 1) for line in file.read_text().splitlines())
            if "oom_kill" in facts:
                return int(facts["oom_kill"])
    return None
