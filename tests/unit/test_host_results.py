"""Result files that stay on the host: which are removed, and when."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent_parts import a_result_file
from overmind_agent.lab.host_results import HostResults

DAY_S = 86_400.0
NOW_S = 1_800_000_000.0


@pytest.fixture
def results(tmp_path: Path) -> HostResults:
    """Four jobs with a file of 10 bytes each, from eight, six, four and two days ago."""
    made = HostResults(tmp_path / "results", "here")
    for days in (2, 4, 6, 8):
        made.keep(f"job-{days}", a_result_file(tmp_path / "out", content=b"x" * 10))
        at_s = NOW_S - days * DAY_S
        os.utime(tmp_path / f"results/job-{days}", (at_s, at_s))
    return made


@pytest.mark.parametrize(
    ("in_use", "limits", "removed"),
    [
        ((), {"keep_s": 7 * DAY_S, "most_bytes": 100}, ["job-8"]),
        ((), {"keep_s": 6 * DAY_S, "most_bytes": 100}, ["job-8", "job-6"]),
        ((), {"keep_s": 9 * DAY_S, "most_bytes": 40}, []),
        ((), {"keep_s": 9 * DAY_S, "most_bytes": 39}, ["job-8"]),
        ((), {"keep_s": 7 * DAY_S, "most_bytes": 20}, ["job-8", "job-6"]),
        (("job-8",), {"keep_s": 7 * DAY_S, "most_bytes": 29}, ["job-6", "job-4"]),
        (("job-8", "job-6", "job-4", "job-2"), {"keep_s": 0, "most_bytes": 0}, []),
    ],
)
def test_what_is_old_or_too_much_is_removed_but_not_what_is_in_use(
    results: HostResults, tmp_path: Path, in_use: tuple[str, ...], limits: dict[str, Any], removed: list[str]
) -> None:
    found = results.prune(lambda job_id: job_id in in_use, now_s=NOW_S, **limits)

    left = {f"job-{days}" for days in (2, 4, 6, 8)} - set(removed)
    assert removed == found
    assert left == {folder.name for folder in (tmp_path / "results").iterdir()}


def test_without_results_there_is_nothing_to_remove(tmp_path: Path) -> None:
    results = HostResults(tmp_path / "results", "here")

    assert [] == results.prune(lambda _: False, keep_s=0, most_bytes=0, now_s=NOW_S)
