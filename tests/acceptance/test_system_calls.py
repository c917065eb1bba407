"""
Killed at the system calls that make something durable, or given an error there, an agent brings its job to its end:
at each of them, and at every fifth of SQLite's writes, which are many.

The boundaries of `test_crash_points` are those that Python tells of; these are the kernel's, SQLite's among them.
`when` counts for each thread by itself, so that one point may meet several threads. Needs strace; `make chaos`
alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from crash_points import ENDS, Bench, Swept

from server import ControlPlaneProcess

MOST = 300  # of one kind, after which something is wrong with the counting
SYNC, NAME, WRITE = "fsync,fdatasync", "rename,unlink,unlinkat,mkdir", "pwrite64"
KINDS = [
    (SYNC, "signal=KILL"),
    (NAME, "signal=KILL"),
    (WRITE, "signal=KILL"),
    (SYNC, "error=EIO"),
    (WRITE, "error=ENOSPC"),
    (WRITE, "error=EDQUOT"),
    (NAME, "error=EROFS"),
]


@pytest.fixture
def bench(tmp_path: Path, plane: ControlPlaneProcess) -> Bench:
    folder = tmp_path / "hosts"
    folder.mkdir()
    return Bench(folder, plane)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("calls", "what"), KINDS)
def test_an_agent_that_is_disturbed_at_a_system_call_loses_no_job(bench: Bench, calls: str, what: str) -> None:
    assert shutil.which("strace"), "strace is missing; on Debian: apt-get install strace"
    faults = {}
    tried = 0

    for number in range(1, MOST, 5 if calls == WRITE else 1):
        trace = bench.folder / f"{calls.partition(',')[0]}-{what}-{number}.trace"
        swept = bench.sweep_within("ledger", trace.stem, _strace(trace, calls, f"{what}:when={number}"))
        if found := _faults(swept):
            faults[trace.stem] = found
        if not _is_disturbed(trace):
            break
        tried += 1

    print(f"{calls} {what}: {tried} points")  # noqa: T201 - shown by `make chaos`
    assert {} == faults
    assert 1 < tried
    assert number < MOST - 5


def _strace(trace: Path, calls: str, inject: str) -> Sequence[str]:
    return ("strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}")


def _is_disturbed(trace: Path) -> bool:
    said = trace.read_text(errors="replace")
    return "(INJECTED)" in said or "killed by SIGKILL" in said


def _faults(swept: Swept) -> list[str]:
    faults = []
    if swept.history[-1] not in ENDS:
        faults.append(f"it went {swept.history}: {swept.message}")
    if swept.had_result and swept.again:
        faults.append("work was done again though its result was there")
    if swept.left:
        faults.append(f"{swept.left} statuses were never delivered")
    if swept.children:
        faults.append(f"processes are left: {swept.children}")
    return faults
