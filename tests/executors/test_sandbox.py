"""Programs in bubblewrap, by really running those that want out. Where it does not work, they are refused."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from overmind_executors.contract import Context, ExecutionFailed
from overmind_executors.inference import InferenceExecutor
from overmind_executors.sandbox.deciding import decide
from overmind_executors.sandbox.levels import Level, Sandbox
from overmind_executors.stopping import StopFlag

SMALL: Final = Sandbox(memory_bytes=256 << 20, processes=24, disk_bytes=8 << 20)
CANARY: Final = "canary-4711"

AGENT: Final = r"""
import ctypes, os, pathlib, signal, socket, subprocess, sys, time

def answer(given):
    deed = given.pop("do")
    return globals()[deed](**given)

def nothing():
    return "done"

def read(paths):
    found = {}
    for path in paths:
        try:
            place = pathlib.Path(path)
            found[path] = os.listdir(place) if place.is_dir() else place.read_text()
        except OSError as error:
            found[path] = error.strerror
    return found

def environments():
    return [path.read_bytes().decode(errors="replace") for path in pathlib.Path("/proc").glob("[0-9]*/environ")]

def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=2)

def look_up():
    socket.getaddrinfo("pypi.org", 443)

def bomb():
    while True:
        os.fork()

def allocate(size):
    len(bytearray(size))

def share_out(size):
    for _ in range(4):
        if os.fork() == 0:
            kept = bytearray(size)
            for place in range(0, size, 4096):
                kept[place] = 1
            time.sleep(600)
    time.sleep(600)

def write(paths):
    written = []
    for path in paths:
        try:
            pathlib.Path(path).write_text("x")
            written.append(path)
        except OSError:
            pass
    return written

def fill():
    with open("/tmp/large", "wb") as file:
        while True:
            file.write(bytes(1 << 20))

def fill_shared():
    with open("/dev/shm/large", "wb") as file:
        while True:
            file.write(bytes(1 << 20))

def stay(word):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", word], start_new_session=True)
    return "gone"

def kill_all():
    os.kill(-1, signal.SIGKILL)

def descriptors():
    return sorted({os.readlink(f"/proc/self/fd/{name}").split(":")[0] for name in os.listdir("/proc/self/fd")[:-1]})

def kernel():
    libc = ctypes.CDLL(None, use_errno=True)
    said = {"namespace": libc.unshare(0x10000000), "trace": libc.ptrace(0, 0, 0, 0)}
    said["ring"] = libc.syscall(425, 1, 0)
    try:
        socket.socket(socket.AF_VSOCK)
        said["vsock"] = "made"
    except OSError as error:
        said["vsock"] = error.strerror
    return said

def who():
    import getpass, pwd
    return [os.getuid(), getpass.getuser(), pwd.getpwuid(os.getuid()).pw_dir, os.getcwd()]

def open_many():
    kept = []
    while True:
        kept.append(open("/dev/null"))

def long():
    return "x" * 2_000_000
"""


@dataclass(frozen=True)
class Host:
    """What a hostile agent was run on, and what its rows came to."""

    folder: Path
    rows: dict[str, dict[str, Any]]
    sandbox: Sandbox
    connections: list[Any]

    def output(self, deed: str) -> Any:
        """What a row's agent returned."""
        assert self.rows[deed]["error"] is None, self.rows[deed]
        return self.rows[deed]["x_overmind"]["output"]

    def error(self, deed: str) -> tuple[str, str]:
        """The code of a row's failure, and its message."""
        return self.rows[deed]["error"]["code"], self.rows[deed]["error"]["message"]


def _context(folder: Path, sandbox: Sandbox, **changes: Any) -> Context:
    for name in ("output", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "job_id": "job-1",
        "attempt": 1,
        "input_file": None,
        "input_name": None,
        "output": folder / "output",
        "state": folder / "state",
        "models": {},
        "data_roots": (),
        "report": lambda *_progress: None,
        "stop": StopFlag(),
        "log": structlog.get_logger(),
        "code_roots": (folder / "code",),
        "sandbox": sandbox,
    }
    return Context(**{**fields, **changes})


def _run(context: Context, deeds: dict[str, dict[str, Any]], **more: Any) -> dict[str, dict[str, Any]]:
    executor = InferenceExecutor()
    parameters = {
        "target": {"kind": "agent", "path": "agents", "entrypoint": "main:answer"},
        "items": [{"id": name, "input": given} for name, given in deeds.items()],
        "concurrency": 2,
        "item_timeout_s": 60.0,
        **more,
    }
    executor.run(executor.validate(parameters), context)
    lines = (context.output / "output.jsonl").read_text().splitlines()
    return {line["custom_id"]: line for line in map(json.loads, lines)}


def _write_agent(folder: Path) -> None:
    (folder / "code" / "agents").mkdir(parents=True)
    (folder / "code" / "agents" / "main.py").write_text(AGENT)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """What this machine can do, with small limits."""
    return decide("required", SMALL)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Host | None]:
    """One job of hostile rows, harmless ones between them; None where bubblewrap does not work."""
    folder = tmp_path_factory.mktemp("host")
    _write_agent(folder)
    (folder / "state").mkdir()
    (folder / "state" / "journal.sqlite").write_text(CANARY)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERMIND_JOB_MARK", CANARY)
        connections: list[Any] = []
        threading.Thread(target=lambda: _accept(server, connections), daemon=True).start()
        outside = ["/x", "/usr/x", "/etc/x", "/code/x", "/dev/x", f"{folder}/x", str(Path(sys.prefix, "x"))]
        of_the_kernel = ["/proc/sys/kernel/hostname", "/proc/self/comm"]
        deeds: dict[str, dict[str, Any]] = {
            "home": {"do": "read", "paths": [str(Path.home()), "/etc/shadow", "/run"]},
            "state": {"do": "read", "paths": [str(folder / "state" / "journal.sqlite"), str(folder)]},
            "environments": {"do": "environments"},
            "connect": {"do": "connect", "port": server.getsockname()[1]},
            "look up": {"do": "look_up"},
            "bomb": {"do": "bomb"},
            "harmless": {"do": "nothing"},
            "allocate": {"do": "allocate", "size": 1 << 30},
            "share out": {"do": "share_out", "size": 100 << 20},
            "write": {"do": "write", "paths": [*outside, *of_the_kernel, "/tmp/x"]},
            "fill": {"do": "fill"},
            "fill shared": {"do": "fill_shared"},
            "stay": {"do": "stay", "word": CANARY},
            "kill all": {"do": "kill_all"},
            "descriptors": {"do": "descriptors"},
            "kernel": {"do": "kernel"},
            "who": {"do": "who"},
            "open many": {"do": "open_many"},
            "long": {"do": "long"},
            "the last": {"do": "nothing"},
        }
        if sandbox.level is Level.BUBBLEWRAP:
            rows = _run(_context(folder, sandbox), deeds)
        else:
            with pytest.raises(ExecutionFailed, match="programs run in bubblewrap here or not at all") as refused:
                _run(_context(folder, sandbox), deeds)
            assert "sandbox_unavailable" == refused.value.reason
            rows = {}
        yield Host(folder, rows, sandbox, connections)


def _accept(server: socket.socket, connections: list[Any]) -> None:
    while True:
        try:
            connections.append(server.accept())
        except OSError:
            return


def _shut_in(host: Host) -> bool:
    """Whether there are rows to look at; else the refusal has been seen."""
    assert bool(host.rows) == (host.sandbox.level is Level.BUBBLEWRAP)
    return bool(host.rows)


def test_a_host_without_bubblewrap_refuses_what_asks_for_it(tmp_path: Path) -> None:
    """And says why; nothing runs with less than its owner wants."""
    _write_agent(tmp_path)
    sandbox = replace(SMALL, level=Level.LIMITS, why="bwrap is not installed", is_required=True)

    with pytest.raises(ExecutionFailed, match="or not at all: bwrap is not installed") as refused:
        _run(_context(tmp_path, sandbox), {"harmless": {"do": "nothing"}})

    assert "sandbox_unavailable" == refused.value.reason


def test_the_rows_beside_a_hostile_one_go_on(host: Host) -> None:
    if _shut_in(host):
        assert ["done", "done"] == [host.output("harmless"), host.output("the last")]


def test_the_level_stands_in_the_result(host: Host) -> None:
    if _shut_in(host):
        summary = json.loads((host.folder / "output" / "summary.json").read_text())

        assert {"kind": "agent", "model": "main:answer", "sandbox": "bubblewrap"} == summary["target"]


def test_an_agent_sees_no_home_and_no_secrets_of_the_system(host: Host) -> None:
    """Of a home, only the way to our own interpreter, when that is there."""
    if _shut_in(host):
        found = host.output("home")
        home = found.pop(str(Path.home()))
        way = {Path(place).relative_to(Path.home()).parts[0] for place in _own_places() if _is_at_home(place)}

        assert way == set(home if isinstance(home, list) else [])
        assert {"No such file or directory"} == set(found.values())


def _own_places() -> list[str]:
    return [sys.prefix, sys.base_prefix, *sys.path]


def _is_at_home(place: str) -> bool:
    return Path(place).is_relative_to(Path.home())


def test_an_agent_does_not_see_the_state_folder(host: Host) -> None:
    if _shut_in(host):
        assert {"No such file or directory"} == set(host.output("state").values())


def test_an_agent_reads_no_other_process_and_no_mark_of_its_job(host: Host) -> None:
    if _shut_in(host):
        found = host.output("environments")

        assert found
        assert [] == [text for text in found if CANARY in text or f"HOME={Path.home()}\0" in text]


def test_an_agent_reaches_no_server_of_the_host(host: Host) -> None:
    if _shut_in(host):
        assert ("crash", "ConnectionRefusedError: [Errno 111] Connection refused") == host.error("connect")
        assert [] == host.connections


def test_an_agent_finds_no_address(host: Host) -> None:
    if _shut_in(host):
        assert "crash" == host.error("look up")[0]


def test_a_fork_bomb_ends_at_its_limit(host: Host) -> None:
    if _shut_in(host):
        expected = "it started more processes than programs may here"

        assert ("process_limit", expected) == host.error("bomb")


def test_too_much_memory_ends_a_row(host: Host) -> None:
    if _shut_in(host):
        assert ("memory_limit", "MemoryError: ") == host.error("allocate")


def test_memory_is_counted_over_all_processes(host: Host) -> None:
    """None of them has more than a process may."""
    if _shut_in(host):
        assert ("memory_limit", "it took more memory than programs may here") == host.error("share out")


def test_an_agent_writes_nowhere_but_into_its_own_folder(host: Host) -> None:
    """Nor to the kernel's settings, which belong to root, and so to an agent of root's."""
    if _shut_in(host):
        assert ["/tmp/x"] == host.output("write")


@pytest.mark.parametrize("deed", ["fill", "fill shared"])
def test_a_full_disk_is_the_agents_own(host: Host, deed: str) -> None:
    if _shut_in(host):
        assert ("disk_limit", "OSError: [Errno 28] No space left on device") == host.error(deed)


def test_no_grandchild_outlives_its_row(host: Host) -> None:
    if _shut_in(host):
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]

        assert "gone" == host.output("stay")
        assert [] == [line for line in lines if line.endswith(f"600)\0{CANARY}\0".encode())]


def test_an_agent_has_nobody_else_to_kill(host: Host) -> None:
    if _shut_in(host):
        assert ("crash", "ProcessLookupError: [Errno 3] No such process") == host.error("kill all")


def test_an_agent_holds_no_descriptor_of_a_file_of_the_host(host: Host) -> None:
    """Through one of the job's log it could write the log anew."""
    if _shut_in(host):
        assert {"/memfd", "pipe"} == set(host.output("descriptors"))


def test_the_kernel_refuses_what_no_namespace_holds_back(host: Host) -> None:
    if _shut_in(host):
        expected = {"namespace": -1, "trace": -1, "ring": -1, "vsock": "Operation not permitted"}

        assert expected == host.output("kernel")


def test_an_agent_is_a_user_that_the_host_does_not_know(host: Host) -> None:
    if _shut_in(host):
        assert [1000, "program", "/tmp", "/tmp"] == host.output("who")


def test_too_many_open_files_are_the_agents_own(host: Host) -> None:
    if _shut_in(host):
        code, message = host.error("open many")
        assert ("crash", "OSError: [Errno 24] Too many open files: '/dev/null'") == (code, message)


def test_a_long_answer_is_cut(host: Host) -> None:
    if _shut_in(host):
        assert ("invalid_response", "an answer of more than 1048576 bytes") == host.error("long")


def test_a_hanging_agent_has_its_time(tmp_path: Path, sandbox: Sandbox) -> None:
    _write_agent(tmp_path)
    level = replace(sandbox, is_required=False)

    with pytest.raises(ExecutionFailed, match="1 x timeout"):
        _run(_context(tmp_path, level), {"x": {"do": "share_out", "size": 1}}, item_timeout_s=0.5)
