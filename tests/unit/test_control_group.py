"""The limits of a control group, read off folders as the kernel has them, of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from overmind_agent.host.control_group import GroupLimits, limits

NO_LIMIT = str((1 << 63) - 4096)


def _found(folder: Path, groups: str, files: dict[str, str]) -> GroupLimits:
    for name, text in files.items():
        path = folder / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "groups").write_text(groups)
    return limits(folder / "groups", folder / "root")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, GroupLimits()),
        ("0::/\n", {}, GroupLimits()),
        (
            "0::/system.slice/agent.service\n",
            {
                "system.slice/agent.service/memory.max": "2147483648",
                "system.slice/agent.service/pids.max": "512",
                "system.slice/agent.service/cpu.max": "150000 100000",
            },
            GroupLimits(1 << 31, 512, 1.5),
        ),
        (
            "0::/slice/agent\n",
            {"slice/agent/memory.max": "max", "slice/memory.max": "1000", "slice/agent/cpu.max": "max 100000"},
            GroupLimits(1000),
        ),
        ("0::/not/seen/from/here\n", {"memory.max": "77", "pids.max": "max"}, GroupLimits(77)),
        (
            "8:pids:/a\n4:memory:/a\n2:cpu,cpuacct:/a\n0::/\n",
            {
                "memory/a/memory.limit_in_bytes": NO_LIMIT,
                "memory/memory.limit_in_bytes": NO_LIMIT,
                "pids/a/pids.max": "64",
                "cpu/a/cpu.cfs_quota_us": "50000",
                "cpu/a/cpu.cfs_period_us": "100000",
            },
            GroupLimits(None, 64, 0.5),
        ),
        (
            "2:cpu:/\n4:memory:/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "5"},
            GroupLimits(5),
        ),
    ],
)
def test_the_narrowest_limit_holds(
    tmp_path: Path, groups: str, files: dict[str, str], expected: GroupLimits
) -> None:
    assert expected == _found(tmp_path, groups, files)


def test_a_host_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert GroupLimits() == limits(tmp_path / "none", tmp_path)
