"""What is taken of an output folder that nobody vouches for."""

from __future__ import annotations

import os
from pathlib import Path

from overmind_agent.files.partial import MOST_FILES, partial_files


def names(folder: Path, **limits: int) -> list[str]:
    """What they are called, and that they are what they say."""
    found = list(partial_files(folder, **limits))
    assert [file.path.stat().st_size for file in found] == [file.size_bytes for file in found]
    return [file.name for file in found]


def test_only_plain_files_with_something_in_them_are_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not the job's")
    folder = tmp_path / "out"
    (folder / "folder").mkdir(parents=True)
    for name in ("output.jsonl", "b.csv", ".hidden", "odd\nname"):
        (folder / name).write_text("rows")
    (folder / "empty").touch()
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "fifo")

    assert ["partial-b.csv", "partial-output.jsonl"] == names(folder)


def test_a_folder_that_is_a_link_or_missing_has_none(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("not the job's")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")

    assert ([], []) == (names(tmp_path / "out"), names(tmp_path / "missing"))


def test_what_does_not_fit_is_left_and_what_follows_is_taken(tmp_path: Path) -> None:
    for name, size in (("a", 6), ("b", 5), ("c", 4)):
        (tmp_path / name).write_bytes(b"x" * size)

    assert ["partial-a", "partial-c"] == names(tmp_path, most_bytes=10)


def test_there_are_only_so_many(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / f"{number:03}").write_text("x")

    assert MOST_FILES == len(names(tmp_path))
