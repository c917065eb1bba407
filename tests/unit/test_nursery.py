"""The nursery, with real processes: what its children are like, and what happens when it fails."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from nurseries import opened
from overmind_agent.children import processes
from overmind_agent.children.nursery import Nursery
from overmind_agent.children.order import SAFE_PATH
from overmind_executors.process import own_environment

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36

# Executors of third parties: one that is well behaved, and some whose module should not be imported before a fork.
MODULE: Final = """
import os
from overmind_executors.contract import Result

{at_import}

class {name}:
    job_type = "{name}"
    is_resumable = True

    def validate(self, parameters):
        return parameters

    def run(self, task, context):
        return Result((), {{
            "pid": os.getpid(),
            "imported_in": imported_in,
            "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{n}}")),
            "threads": len(os.listdir("/proc/self/task")),
            "drawn": __import__("random").random(),
            "temporary": __import__("tempfile").gettempdir(),
            "cores": __import__("resource").getrlimit(4),
        }})
"""  # noqa: E501 - a program
AT_IMPORT: Final = {
    "calm": "imported_in = os.getpid(); import tempfile; tempfile.gettempdir()",
    "threaded": "imported_in = os.getpid(); from threading import *; Timer(600, print).start()",
    "open": "imported_in = os.getpid(); kept = open(os.devnull)",
    "deadly": "imported_in = os.getpid()\nif 'OVERMIND_ROOM' in os.environ: os.kill(imported_in, 11)",
    "talking": "imported_in = os.getpid(); print('hello from the import')",
    "broken": "raise SystemExit('no licence')",
}


@pytest.fixture(scope="module", autouse=True)
def guarded() -> Iterator[None]:
    """This process as the agent is; and then as it was."""
    processes.guard_this_process()
    yield
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which those executors are installed."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "odd_executors-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-executors\nVersion: 1.0\n")
    points = "".join(f"{name} = {name}_executor:{name}\n" for name in AT_IMPORT)
    (info / "entry_points.txt").write_text(f"[overmind_agent.executors]\n{points}")
    for name, at_import in AT_IMPORT.items():
        (folder / f"{name}_executor.py").write_text(MODULE.format(name=name, at_import=at_import))
    return folder


@pytest.fixture(scope="module")
def nursery(site: Path) -> Iterator[Nursery]:
    with opened({"PYTHONPATH": str(site)}, ["calm"]) as made:
        yield made


@dataclass
class Forked:
    """What a forked child left."""

    child: processes.Adopted
    said: Mapping[str, object]
    log: str


def fork(nursery: Nursery, folder: Path, job_type: str = "calm") -> Forked | None:
    """A job of that type from its start to its end; None when no child was to be had."""
    folder.mkdir(exist_ok=True)
    order = {"job_id": "j", "attempt": 1, "job_type": job_type, "parameters": {}}
    with (folder / "order").open("wb+") as given, (folder / "log").open("ab") as log:
        given.write(json.dumps(order).encode())
        given.seek(0)
        reader, writer = os.pipe()
        environment = job_environment(folder)
        child = nursery.fork(environment, folder, nice=0, descriptors=(given.fileno(), log.fileno(), writer))
        os.close(writer)
        os.close(reader)
    if child is None:
        return None
    assert processes.has_ended(child, within_s=20)
    processes.let_go(child)
    result = json.loads((folder / "result.json").read_text())
    return Forked(child, result.get("outcome", result), (folder / "log").read_text())


def job_environment(folder: Path) -> dict[str, str]:
    return {"PATH": SAFE_PATH, "TMPDIR": str(folder), "OVERMIND_JOB_MARK": "test#j/1/x"}


# ------------------------------------------------------------------------------------ what its children are like


def test_a_child_has_what_was_imported_before(nursery: Nursery, tmp_path: Path) -> None:
    made = fork(nursery, tmp_path / "job")

    assert made is not None
    assert nursery.pid == made.said["imported_in"]
    assert made.child.pid == made.said["pid"]


def test_a_child_has_no_descriptor_but_its_own(nursery: Nursery, tmp_path: Path) -> None:
    """Order, log, log, events, and the two ends of the pipe that wakes it at a signal. Nothing of the nursery's."""
    made = fork(nursery, tmp_path / "job")

    assert made is not None
    assert [0, 1, 2, 3, 4, 5] == made.said["descriptors"]


def test_children_draw_different_numbers_and_have_folders_of_their_own(nursery: Nursery, tmp_path: Path) -> None:
    one, two = (fork(nursery, tmp_path / name) for name in ("one", "two"))

    assert one is not None
    assert two is not None
    assert one.said["drawn"] != two.said["drawn"]
    assert [str(tmp_path / "one"), str(tmp_path / "two")] == [one.said["temporary"], two.said["temporary"]]


def test_a_child_leaves_no_core(nursery: Nursery, tmp_path: Path) -> None:
    made = fork(nursery, tmp_path / "job")

    assert made is not None
    assert [0, 0] == made.said["cores"]


def test_the_kernel_shows_a_childs_environment_and_no_other(nursery: Nursery, tmp_path: Path) -> None:
    """By it the processes of a job are found; and nothing of the nursery's own is left in it."""
    with (tmp_path / "log").open("ab") as log:
        order, order_writer = os.pipe()
        reader, writer = os.pipe()
        child = nursery.fork(job_environment(tmp_path), tmp_path, nice=0, descriptors=(order, log.fileno(), writer))
        os.close(order)
        os.close(writer)
    assert child is not None
    try:
        assert b'{"event":"ready"}\n' == os.read(reader, 100)
        raw = Path(f"/proc/{child.pid}/environ").read_bytes()
    finally:
        os.close(order_writer)
        os.close(reader)
        processes.let_go(child)

    assert [f"{k}={v}" for k, v in job_environment(tmp_path).items()] == raw.rstrip(b"\0").decode().split("\0")


def test_a_child_that_is_told_of_is_in_a_session_of_its_own(nursery: Nursery, tmp_path: Path) -> None:
    """In the nursery's group it would be killed with the nursery, in the moment after its birth."""
    found = []
    for _ in range(5):
        with (tmp_path / "log").open("ab") as log:
            order, order_writer = os.pipe()
            child = nursery.fork({}, tmp_path, nice=0, descriptors=(order, log.fileno(), log.fileno()))
            assert child is not None
            found.append(os.getsid(child.pid) == child.pid)
            processes.let_go(child)
            os.close(order)
            os.close(order_writer)

    assert [True] * 5 == found


def test_an_environment_without_room_is_refused_and_the_next_child_is_well(
    nursery: Nursery, tmp_path: Path
) -> None:
    long = {"LONG": "x" * (own_environment.ROOM_BYTES + 5000)}
    with capture_logs() as lines:
        refused = nursery.fork(long, tmp_path, nice=0, descriptors=(0, 1, 2))

    assert (None, ["nursery.refused"]) == (refused, [line["event"] for line in lines])
    assert fork(nursery, tmp_path / "job") is not None


def test_a_folder_that_is_gone_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    assert nursery.fork(job_environment(tmp_path), tmp_path / "gone", nice=0, descriptors=(0, 1, 2)) is None


# ------------------------------------------------------------------------------------ what it knows


def test_nothing_of_the_agents_is_in_a_nursery(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory would be the memory of every job."""
    monkeypatch.setenv("OVERMIND_API_KEY", "ovr_" + "canary")
    with opened({"PYTHONPATH": str(site)}) as nursery:
        pid = nursery.pid
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        memory = memory_of(pid)
        descriptors = sorted(str(link.readlink()).partition(":")[0] for link in Path(f"/proc/{pid}/fd").iterdir())

    assert b"ovr_canary" not in environment + memory
    assert ["/dev/null", "/dev/null", "/dev/null", "socket"] == descriptors


def memory_of(pid: int | None) -> bytes:
    """All that it can read and write."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - unbuffered
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if rights.startswith("rw") and "[v" not in line:
                start, end = (int(part, 16) for part in place.split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


# ------------------------------------------------------------------------------------ how it fails


def test_a_nursery_that_was_killed_is_followed_by_another(site: Path, tmp_path: Path) -> None:
    with opened({"PYTHONPATH": str(site)}) as nursery, capture_logs() as lines:
        assert nursery.pid is not None
        os.kill(nursery.pid, signal.SIGKILL)

        assert fork(nursery, tmp_path / "one") is None
        nursery.start()
        assert nursery.wait_until_ready(20)
        made = fork(nursery, tmp_path / "two")

    assert made is not None
    assert ["nursery.failed"] == [line["event"] for line in lines]


def test_a_nursery_that_cannot_be_started_ends_no_daemon(site: Path) -> None:
    """Not one descriptor is left, and later there are some again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened({"PYTHONPATH": str(site)}) as nursery, capture_logs() as lines:
        nursery.close()
        os.close(lowest := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            nursery.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert nursery.pid is None
        nursery.start()
        assert nursery.wait_until_ready(20)

    assert ["nursery.failed"] == [line["event"] for line in lines]


def test_children_live_on_when_their_nursery_is_killed(nursery: Nursery, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        order, order_writer = os.pipe()
        reader, writer = os.pipe()
        with opened({}) as short_lived:
            child = short_lived.fork({}, tmp_path, nice=0, descriptors=(order, log.fileno(), writer))
        os.close(order)
        os.close(writer)
    assert child is not None
    assert not processes.has_ended(child, within_s=0)

    os.close(order_writer)  # no order: it goes home

    assert processes.has_ended(child, within_s=20)
    os.close(reader)
    assert 0 == child.wait()
    processes.let_go(child)


@pytest.mark.parametrize(
    ("job_type", "why"),
    [
        ("threaded", "it left 1 threads"),
        ("open", "it left 1 open descriptors"),
        ("deadly", "the nursery died of it"),
    ],
)
def test_a_module_after_which_nobody_may_fork_is_imported_by_each_job(
    site: Path, tmp_path: Path, job_type: str, why: str
) -> None:
    with capture_logs() as lines, opened({"PYTHONPATH": str(site)}, ["calm", job_type]) as nursery:
        made = fork(nursery, tmp_path / "job", job_type)

    assert made is not None
    assert made.said["pid"] == made.said["imported_in"]
    assert [("nursery.spoiled", job_type, why)] == [(li["event"], li["job_type"], li["why"]) for li in lines]


@pytest.mark.parametrize(("job_type", "log"), [("talking", ""), ("broken", "")])
def test_a_module_that_is_odd_is_of_no_concern(site: Path, tmp_path: Path, job_type: str, log: str) -> None:
    """What it prints while it is imported is in nobody's log; that it is broken is told by each of its jobs."""
    with opened({"PYTHONPATH": str(site)}, [job_type, "calm"]) as nursery:
        made = fork(nursery, tmp_path / "job")

    assert made is not None
    assert log == made.log


def test_a_nursery_ends_with_its_agent(site: Path) -> None:
    code = textwrap.dedent(
        """
        from nurseries import opened
        from overmind_agent.children import processes
        processes.guard_this_process()
        with opened({}):
            print("ready", flush=True)
            input()
        """
    )
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": tests},
    ) as agent:
        assert agent.stdout is not None
        assert b"ready\n" == agent.stdout.readline()
        (pid,) = map(int, Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split())
        nursery = os.pidfd_open(pid)

        agent.kill()

        assert select.select([nursery], [], [], 20)[0]
        os.close(nursery)
