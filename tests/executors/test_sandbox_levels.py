"""Which sandbox a host has, which programs get it, and what is counted of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_executors.contract import ExecutionFailed
from overmind_executors.sandbox import census, pids_group, syscalls
from overmind_executors.sandbox.bubblewrap import View, words
from overmind_executors.sandbox.deciding import Use, decide, what_is_missing
from overmind_executors.sandbox.levels import Level, Sandbox

EXEMPT: Final = Sandbox(exempt=frozenset({"@acme:render"}))
# What the owner asks for, what is missing; the level for most programs and for an exempt one, and who is refused.
CHOICES: Final[dict[str, tuple[Use, str, tuple[Level, Level], tuple[bool, bool]]]] = {
    "auto with": ("auto", "", (Level.BUBBLEWRAP, Level.LIMITS), (False, False)),
    "auto without": ("auto", "no namespaces", (Level.LIMITS, Level.LIMITS), (False, False)),
    "required with": ("required", "", (Level.BUBBLEWRAP, Level.LIMITS), (False, False)),
    "required without": ("required", "no namespaces", (Level.LIMITS, Level.LIMITS), (True, False)),
    "off with": ("off", "", (Level.NONE, Level.NONE), (False, False)),
    "off without": ("off", "no namespaces", (Level.NONE, Level.NONE), (False, False)),
}


@pytest.mark.parametrize(("use", "missing", "levels", "refused"), CHOICES.values(), ids=CHOICES)
def test_the_owner_and_the_host_together_make_the_level(
    use: Use, missing: str, levels: tuple[Level, Level], refused: tuple[bool, bool]
) -> None:
    found = decide(use, EXEMPT, missing=lambda _wanted: missing)

    assert levels == (found.level_of("upper"), found.level_of("@acme:render"))
    assert refused == (found.refuses("upper"), found.refuses("@acme:render"))


def test_a_bubblewrap_that_does_not_work_is_found_by_starting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    why = what_is_missing(Sandbox())

    assert "bwrap ends with 1: bwrap: No permissions to create new namespace" == why


def test_a_bubblewrap_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "bwrap is not installed; install bubblewrap 0.8 or later" == what_is_missing(Sandbox())


def test_programs_may_not_read_a_folder_that_the_jobs_lie_in(tmp_path: Path) -> None:
    """It would show them the journal, and the keys' files."""
    with pytest.raises(ExecutionFailed, match="the agent's folder lies in it") as refused:
        words(View(), Sandbox(reads=(tmp_path,)), tmp_path / "jobs" / "1" / "state")

    assert "sandbox_unavailable" == refused.value.reason


def test_a_sandbox_travels_in_an_order_as_plain_values() -> None:
    sandbox = replace(EXEMPT, level=Level.BUBBLEWRAP, reads=(Path("/opt/tool"),))

    found = sandbox.as_json()

    assert ("bubblewrap", ["/opt/tool"], ["@acme:render"]) == (found["level"], found["reads"], found["exempt"])


@pytest.fixture
def family() -> Iterator[int]:
    """A process with three children, which has said that they are there."""
    program = (
        "import os,time\nfor _ in range(3):\n if not os.fork(): time.sleep(600)\nprint(flush=True);time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def test_what_a_process_started_is_counted_with_it(family: int) -> None:
    found = census.count(family, most_processes=100, most_bytes=1 << 40)

    assert 4 == found.processes
    assert found.memory_bytes > 1 << 20


def test_memory_that_processes_share_is_counted_once(family: int) -> None:
    """When the quick sum is above the limit, a closer look is taken."""
    quick = census.count(family, most_processes=100, most_bytes=1 << 40).memory_bytes

    exact = census.count(family, most_processes=100, most_bytes=1).memory_bytes

    assert 0 < exact < quick


def test_counting_ends_at_the_limit(family: int) -> None:
    assert 3 == census.count(family, most_processes=2, most_bytes=1 << 40).processes


def test_a_process_that_is_gone_counts_as_nothing() -> None:
    assert census.Census(0, 0) == census.count(0, most_processes=10, most_bytes=1 << 40)


def test_a_folder_is_measured_with_all_that_lies_in_it_and_no_link_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(100_000))
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("/usr")

    taken = census.folder_bytes(tmp_path, most=1 << 30)

    assert 100_000 <= taken < 150_000
    assert census.folder_bytes(tmp_path, most=1000) > 1000


def test_the_filter_says_allow_at_its_end_and_knows_its_machines() -> None:
    filters = {machine: syscalls.filter_for(machine) for machine in ("x86_64", "aarch64", "pdp11")}

    assert {"x86_64": 0, "aarch64": 0, "pdp11": 0} == {machine: len(f) % 8 for machine, f in filters.items()}
    assert [True, True, False] == [bool(found) for found in filters.values()]
    assert filters[os.uname().machine] == syscalls.filter_for()


def test_groups_for_processes_are_looked_for_where_they_can_be_made(tmp_path: Path) -> None:
    """The older form of the controller first, then the newer one, where its parent hands it on."""
    older, newer, bare = (tmp_path / name for name in ("older", "newer", "bare"))
    (older / "pids").mkdir(parents=True)
    (older / "pids" / "cgroup.procs").touch()
    newer.mkdir()
    (newer / "cgroup.subtree_control").write_text("cpu memory pids\n")
    bare.mkdir()
    (bare / "cgroup.subtree_control").write_text("cpu\n")

    found = [pids_group.home(place) for place in (older, newer, bare, tmp_path / "none")]

    assert [older / "pids", newer, None, None] == found


def test_only_groups_whose_maker_is_gone_are_swept(tmp_path: Path) -> None:
    mine, other = tmp_path / f"overmind-program-{os.getpid()}-1", tmp_path / "user.slice"
    left = tmp_path / f"overmind-program-{_a_number_of_nobody()}-1"
    for group in (mine, other, left):
        group.mkdir()

    pids_group.sweep(tmp_path)

    assert {mine, other} == set(tmp_path.iterdir())


def _a_number_of_nobody() -> int:
    process = subprocess.Popen(["/usr/bin/true"])
    process.wait()
    return process.pid


def test_a_group_holds_a_process_and_is_removed_after_it(tmp_path: Path) -> None:
    with pids_group.joined(4711, 30, tmp_path):
        (group,) = tmp_path.iterdir()
        written: dict[str, Any] = {path.name: path.read_text() for path in group.iterdir()}
        for path in group.iterdir():  # the kernel's own files go with their folder
            path.unlink()

    assert {"pids.max": "30", "cgroup.procs": "4711"} == written
    assert [] == list(tmp_path.iterdir())
