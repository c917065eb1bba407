"""The kernel's count of processes that were killed for want of memory, in either kind of control group."""

from __future__ import annotations

from pathlib import Path

import pytest

from overmind_agent.children.memory_kills import memory_kills

EVENTS = "low 0\nhigh 2\nmax 5\noom 4\noom_kill 3\noom_group_kill 1\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"

TREES: dict[str, tuple[str, dict[str, str], int | None]] = {
    "version 2": ("0::/agent.slice\n", {"agent.slice/memory.events": EVENTS}, 3),
    "version 2 in a container": ("0::/\n", {"memory.events": EVENTS}, 3),
    "version 2, of which only the root is seen": ("0::/../elsewhere\n", {"memory.events": EVENTS}, 3),
    "version 1": (
        "5:cpu:/x\n4:memory:/x\n0::/\n",
        {"memory/x/memory.oom_control": CONTROL, "memory.events": "oom 1\n"},
        7,
    ),
    "version 1 with several controllers": ("4:cpu,memory:/\n", {"memory/memory.oom_control": CONTROL}, 7),
    "no count": ("4:memory:/\n", {"memory/memory.oom_control": "under_oom 0\n"}, None),
    "nonsense": ("what is this\n", {}, None),
    "a count that is none": ("0::/\n", {"memory.events": "oom_kill many\n"}, None),
}


@pytest.mark.parametrize(("groups", "files", "count"), TREES.values(), ids=TREES.keys())
def test_the_count_is_that_of_our_own_group(
    tmp_path: Path, groups: str, files: dict[str, str], count: int | None
) -> None:
    own = tmp_path / "cgroup"
    own.write_text(groups)
    root = tmp_path / "sys"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    assert count == memory_kills(own, root)


def test_where_there_are_no_control_groups_nothing_is_known(tmp_path: Path) -> None:
    assert memory_kills(tmp_path / "cgroup", tmp_path) is None
