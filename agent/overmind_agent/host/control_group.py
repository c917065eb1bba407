"""
What the kernel allows this service, all its jobs included: the limits of its control group.

Source:
    Linux, Documentation: admin-guide/cgroup-v2.rst, admin-guide/cgroup-v1/memory.rst, scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OWN_GROUPS: Final = Path("/proc/self/cgroup")
ROOT: Final = Path("/sys/fs/cgroup")
# Version 1 says "no limit" with the largest number of pages.
_NO_LIMIT: Final = 1 << 62


@dataclass(frozen=True)
class GroupLimits:
    """What holds for this process and its children together, None for no limit; *processors* may be a fraction."""

    memory_bytes: int | None = None
    processes: int | None = None
    processors: float | None = None


def limits(own_groups: Path = OWN_GROUPS, root: Path = ROOT) -> GroupLimits:
    """The narrowest limits of our group and of those above it; what cannot be read counts as none."""
    with suppress(OSError):
        lines = [line.split(":", 2) for line in own_groups.read_text().splitlines() if line.count(":") >= 2]
        groups = {name: group for _, names, group in lines for name in names.split(",")}
        return GroupLimits(
            _least(_numbers(groups, root, "memory", "memory.max", "memory.limit_in_bytes")),
            _least(_numbers(groups, root, "pids", "pids.max", "pids.max")),
            min(_processors(groups, root), default=None),
        )
    return GroupLimits()


def _least(numbers: Iterator[int]) -> int | None:
    return min((number for number in numbers if number < _NO_LIMIT), default=None)


def _folders(groups: dict[str, str], root: Path, controller: str) -> Iterator[tuple[bool, Path]]:
    """Whether it is of version 2, and the folder, of our group and of each above it."""
    is_second = controller not in groups
    if is_second and "" not in groups:
        return
    tree = root if is_second else root / controller
    # In a container the group's own folder is where the root of the tree seems to be.
    group = Path(groups["" if is_second else controller].lstrip("/"))
    for part in (group, *group.parents):
        yield is_second, tree / part


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().split()
    return []


def _numbers(groups: dict[str, str], root: Path, controller: str, second: str, first: str) -> Iterator[int]:
    for is_second, folder in _folders(groups, root, controller):
        words = _words(folder / (second if is_second else first))
        if words and words[0].isdecimal():
            yield int(words[0])


def _processors(groups: dict[str, str], root: Path) -> Iterator[float]:
    for is_second, folder in _folders(groups, root, "cpu"):
        names = ["cpu.max"] if is_second else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        words = [word for name in names for word in _words(folder / name)]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            yield int(words[0]) / int(words[1])
