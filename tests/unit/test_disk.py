"""Room on the disk: how much is asked for, what is cleaned up first, and the reserve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from overmind_agent.host.disk import GIB, MIB, Disk, Reserve, lack, least_free_bytes

WAIT_S = 30


@pytest.mark.parametrize(
    ("size_bytes", "asked", "least_bytes"),
    [
        (2000 * GIB, None, 100 * GIB),
        (100 * GIB, None, 5 * GIB),
        (10 * GIB, None, GIB),
        (5 * GIB, None, GIB),
        (1 * GIB, None, GIB // 5),
        (100 * MIB, None, 20 * MIB),
        (100 * MIB, 3 * GIB, 3 * GIB),
        (2000 * GIB, 0, 0),
    ],
)
def test_how_much_must_be_free(size_bytes: int, asked: int | None, least_bytes: int) -> None:
    assert least_bytes == least_free_bytes(size_bytes, asked)


def test_what_is_short_is_said_with_both_numbers(tmp_path: Path) -> None:
    assert f"fewer than {1 << 62:,}" in (lack(tmp_path, 1 << 62) or "")
    assert lack(tmp_path, 0) is None


INODES = """
import itertools, sys
from pathlib import Path
from overmind_agent.host.disk import lack

folder = Path(sys.argv[1])
for number in itertools.count(1):
    (folder / str(number)).touch()
    if (told := lack(folder, 0)) is not None:
        print(number, told)
        break
"""


def test_a_disk_without_inodes_takes_no_job(tmp_path: Path) -> None:
    """A disk of 200 files: below a twentieth of them it is short, though there is room for bytes."""
    script = 'mount -t tmpfs -o size=4m,nr_inodes=200 small "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]

    ended = subprocess.run(
        [*command, str(tmp_path), sys.executable, INODES],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert "190 9 inodes are free, fewer than 10" == ended.stdout.strip(), ended.stderr


def test_the_reserve_takes_room_once_and_gives_it_up_once(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", size_bytes=4 * MIB)

    assert 4 * MIB == reserve.owed_bytes
    assert reserve.keep()
    assert reserve.keep()
    assert 4 * MIB == (tmp_path / "reserve").stat().st_blocks * 512
    assert 0 == reserve.owed_bytes
    assert [True, False] == [reserve.give_up(), reserve.give_up()]


class Scene:
    """A disk that asks for so much that only cleaning up can help."""

    def __init__(self, folder: Path, *, min_free_bytes: int) -> None:
        self.cleaned = 0
        self.reserve = Reserve(folder / "reserve", size_bytes=MIB)
        self.disk = Disk(
            folder,
            min_free_bytes=min_free_bytes,
            reserve=self.reserve,
            clean=self._clean,
            log=structlog.get_logger(),
        )

    def _clean(self) -> None:
        self.cleaned += 1


def test_before_it_says_no_it_cleans_up_and_says_so_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, min_free_bytes=1 << 62)

    with structlog.testing.capture_logs() as lines:
        refusals = [scene.disk.refusal() for _ in range(3)]

    assert all(refusal and " are free, fewer than " in refusal for refusal in refusals)
    assert 1 == scene.cleaned
    assert ["disk.short"] == [line["event"] for line in lines]


def test_without_room_no_reserve_is_made_and_each_time_it_is_cleaned_up(tmp_path: Path) -> None:
    scene = Scene(tmp_path, min_free_bytes=1 << 62)

    scene.disk.tend()
    scene.disk.tend()

    assert MIB == scene.reserve.owed_bytes
    assert 2 == scene.cleaned


def test_with_room_the_reserve_is_made_anew(tmp_path: Path) -> None:
    scene = Scene(tmp_path, min_free_bytes=0)

    scene.disk.tend()
    scene.reserve.give_up()
    scene.disk.tend()

    assert 0 == scene.reserve.owed_bytes
    assert 0 == scene.cleaned


def test_a_folder_that_cannot_be_looked_at_takes_no_job(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "gone", min_free_bytes=0)

    assert "cannot be looked at" in (scene.disk.refusal() or "")


FULL = """
import errno, sys
from pathlib import Path
from agent_parts import a_claim
from overmind_agent.host.disk import Reserve
from overmind_agent.errors import JournalError
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status

folder = Path(sys.argv[1])
reserve = Reserve(folder / "reserve", size_bytes=1024 * 1024)
assert reserve.keep()
journal = SqliteJournal(folder / "journal.sqlite", make_room=reserve.give_up)
claim = a_claim()
journal.intend(claim.job, "key")
journal.hold(claim)
with open(folder / "filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC
journal.post(claim, Status.VALIDATING)
journal.post(claim, Status.FAILED, message="x" * 1000, detail={"reason": "disk_full"})
said = 2
try:
    for number in range(1000):
        journal.remember_agent(str(number) + "x" * 10000)
except JournalError:
    pass
else:
    raise AssertionError("the disk took more than it has")
(folder / "filler").unlink()
journal.remember_agent("last")
print([posted.update.status.value for posted in journal.undelivered()], journal.agent_id(), reserve.give_up())
journal.close()
journal = SqliteJournal(folder / "journal.sqlite")
print([status.value for status in journal.statuses(claim)])
"""


def test_on_a_full_disk_the_last_word_gets_into_the_journal(tmp_path: Path) -> None:
    """A disk of 4 MiB, really full: the reserve makes room, what was written before stays, and it goes on after."""
    script = 'mount -t tmpfs -o size=4m small "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]

    ended = subprocess.run(
        [*command, str(tmp_path), sys.executable, FULL],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        timeout=WAIT_S,
        check=False,
    )

    assert [
        "['Validating', 'Failed'] last False",
        "['Claimed', 'Validating', 'Failed']",
    ] == ended.stdout.splitlines(), ended.stderr
