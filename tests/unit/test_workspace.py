"""A job's folder: kept for the same work, new for other work, and never outside its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent_parts import JOB_ID, a_file, a_job
from overmind_agent.files.workspace import KEPT_BYTES, DiskWorkspaces


@pytest.fixture
def workspaces(tmp_path: Path) -> DiskWorkspaces:
    return DiskWorkspaces(tmp_path / "jobs")


def test_a_new_folder_has_a_place_for_everything(workspaces: DiskWorkspaces, tmp_path: Path) -> None:
    with workspaces.open(a_job(), a_file("rows.jsonl")) as workspace:
        made = workspace

    folder = tmp_path / "jobs" / JOB_ID
    assert folder == made.folder
    assert folder / "in" / "input.jsonl" == made.input_file
    assert "rows.jsonl" == made.input_name
    assert (folder / "out", folder / "state") == (made.output, made.state)
    assert (folder / "log.txt", folder / "result.json", folder / "tmp") == (made.log, made.result, made.temporary)
    assert all(part.is_dir() for part in (made.input_file.parent, made.output, made.state))
    assert not made.result.exists()


def test_a_start_forgets_what_was_for_processes_of_an_earlier_one(workspaces: DiskWorkspaces) -> None:
    with workspaces.open(a_job(), None) as workspace:
        workspace.temporary.mkdir()
        (workspace.temporary / "copy").write_text("a secret")
        (workspace.state / "paid").write_text("calls")

    workspaces.forget_temporary()

    assert not workspace.temporary.exists()
    assert (workspace.state / "paid").exists()


def test_folders_are_for_their_owner_only(workspaces: DiskWorkspaces, tmp_path: Path) -> None:
    with workspaces.open(a_job(), None) as workspace:
        folders = [tmp_path / "jobs", workspace.output, workspace.state]

    assert [0o700] * 3 == [folder.stat().st_mode & 0o777 for folder in folders]


def test_the_same_work_finds_what_was_left(workspaces: DiskWorkspaces) -> None:
    with workspaces.open(a_job(), a_file("rows.jsonl", "c" * 96)) as workspace:
        (workspace.state / "paid").write_text("calls")

    with workspaces.open(a_job(), a_file("renamed.jsonl", "c" * 96)) as workspace:
        assert "calls" == (workspace.state / "paid").read_text()


@pytest.mark.parametrize(
    ("parameters", "input_file"),
    [
        (a_file(sha="d" * 96), a_file("rows.jsonl", "c" * 96)),
        (a_file(), a_file("rows.jsonl", "e" * 96)),
        (a_file(), None),
    ],
    ids=["other parameters", "another input", "no input"],
)
def test_other_work_finds_nothing(workspaces: DiskWorkspaces, parameters: object, input_file: object) -> None:
    with workspaces.open(a_job(), a_file("rows.jsonl", "c" * 96)) as workspace:
        (workspace.state / "paid").write_text("calls")
        workspace.result.write_text("{}")

    with workspaces.open(replace(a_job(), parameters=parameters), input_file) as workspace:  # type: ignore[arg-type]
        assert [] == list(workspace.state.iterdir())
        assert not workspace.result.exists()


@pytest.mark.parametrize("damage", ["", "{", "null", '{"parameters": 1}'])
def test_a_folder_of_which_nobody_knows_what_it_is_for_is_not_used(
    workspaces: DiskWorkspaces, tmp_path: Path, damage: str
) -> None:
    with workspaces.open(a_job(), None) as workspace:
        (workspace.state / "paid").write_text("calls")
    (tmp_path / "jobs" / JOB_ID / "basis.json").write_text(damage)

    with workspaces.open(a_job(), None) as workspace:
        assert [] == list(workspace.state.iterdir())


@pytest.mark.parametrize(
    ("name", "input_name"),
    [
        ("rows.jsonl", "input.jsonl"),
        ("ROWS.CSV", "input.csv"),
        ("rows.jsonl.gz", "input.gz"),
        ("../../../etc/passwd", "input"),
        ("/etc/cron.d/x.txt", "input.txt"),
        ("x.sh", "input"),
        (".jsonl", "input"),
        ("a\0b.csv", "input.csv"),
        ("x." + "y" * 300, "input"),
        ("..", "input"),
        ("rows.jsonl/../../x", "input"),
    ],
)
def test_a_name_from_outside_is_never_a_path(
    workspaces: DiskWorkspaces, tmp_path: Path, name: str, input_name: str
) -> None:
    with workspaces.open(a_job(), a_file(name)) as workspace:
        assert tmp_path / "jobs" / JOB_ID / "in" / input_name == workspace.input_file
        assert name == workspace.input_name


def test_only_folders_that_nobody_needs_are_swept(workspaces: DiskWorkspaces, tmp_path: Path) -> None:
    for job_id in ("a", "b", "c"):
        with workspaces.open(a_job(job_id), None):
            pass

    left = workspaces.sweep(lambda job_id: job_id == "b")

    assert [] == left
    assert ["b"] == [folder.name for folder in (tmp_path / "jobs").iterdir()]


def test_folders_deeper_than_a_stack_are_swept(tmp_path: Path) -> None:
    """And hinder neither the folders beside them nor the work that comes into their place."""
    (tmp_path / "jobs" / "old").mkdir(parents=True)
    deep = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", deep], cwd=tmp_path / "jobs" / "old", check=True)
    workspaces = DiskWorkspaces(tmp_path / "jobs")

    assert [] == workspaces.sweep(lambda _name: False)

    assert [] == list((tmp_path / "jobs").iterdir())


def test_a_link_in_a_folder_is_not_followed_by_the_sweep(workspaces: DiskWorkspaces, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    with workspaces.open(a_job(), None) as workspace:
        (workspace.output / "link").symlink_to(precious)

    workspaces.sweep(lambda _: False)

    assert "x" == (precious / "file").read_text()


SWEEP = """
import sys
from pathlib import Path
from overmind_agent.files.workspace import DiskWorkspaces

print(DiskWorkspaces(Path(sys.argv[1])).sweep(lambda _name: False))
"""


def swept(jobs: Path, within: Sequence[str], prepare: str) -> str:
    """What a sweep of *jobs* says to have left, after a line of shell in the same namespace."""
    command = [*within, "sh", "-c", f'{prepare} && exec "$2" -c "$3" "$1"', "sh", jobs, sys.executable, SWEEP]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == ended.returncode, ended.stderr
    return ended.stdout.strip()


def test_a_folder_that_cannot_be_removed_is_told_and_hinders_no_other(tmp_path: Path) -> None:
    """Something is mounted in it."""
    jobs = tmp_path / "jobs"
    for name in ("a", "b", "c"):
        (jobs / name / "out").mkdir(parents=True)

    told = swept(jobs, ["unshare", "--user", "--map-root-user", "--mount"], 'mount -t tmpfs x "$1/b/out"')

    assert "['b']" == told
    assert ["b"] == [folder.name for folder in jobs.iterdir()]


def test_folders_that_a_job_has_shut_are_removed(tmp_path: Path) -> None:
    """By a user who is not the administrator of this host, for whom no folder is shut."""
    jobs = tmp_path / "jobs"
    (jobs / "a" / "out" / "shut" / "inner").mkdir(parents=True)
    (jobs / "b" / "out" / "file").mkdir(parents=True)
    shut = 'touch "$1/a/out/shut/inner/x" && chmod 0 "$1/a/out/shut" && chmod 0555 "$1/b/out"'

    told = swept(jobs, ["unshare", "--user", "--map-user=1000", "--map-group=1000"], shut)

    assert "[]" == told
    assert [] == list(jobs.iterdir())


def test_what_is_kept_of_jobs_that_failed_has_a_limit_and_the_newest_stay(
    workspaces: DiskWorkspaces, tmp_path: Path
) -> None:
    """But for the folder of a job that is at work here."""
    block = 1 << 20
    for number, job_id in enumerate(("at work", "old", "newer", "newest")):
        with workspaces.open(a_job(job_id), None) as workspace:
            (workspace.output / "rows").write_bytes(b"x" * block)
        os.utime(tmp_path / "jobs" / job_id, (number, number))

    left = workspaces.sweep(lambda _: True, in_use=lambda job_id: job_id == "at work", most_bytes=5 * block // 2)

    assert [] == left
    assert {"at work", "newer", "newest"} == {folder.name for folder in (tmp_path / "jobs").iterdir()}
    assert 10 << 30 == KEPT_BYTES
