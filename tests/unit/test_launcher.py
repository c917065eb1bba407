"""The launcher, with real child processes: a clean start, an honest end, and nothing that outlives a job."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from agent_parts import a_claim, a_file
from nurseries import opened
from overmind_agent import tracing, wire
from overmind_agent.children import processes
from overmind_agent.children.launcher import LOST_GRACE_S, ProcessLauncher
from overmind_agent.children.nursery import Nursery
from overmind_agent.children.order import SAFE_PATH, ChildSettings
from overmind_agent.children.result import has_ended, read_result
from overmind_agent.children.watch import EventReader
from overmind_agent.clock import SystemClock
from overmind_agent.errors import ExecutorError, InvalidInput, JobError, Stopped
from overmind_agent.files.workspace import DiskWorkspaces
from overmind_agent.held_jobs import MARGIN_S
from overmind_agent.jobs import Progress, Result, StopReason
from overmind_agent.ports import Workspace
from overmind_executors.contract import ModelEndpoint

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36

# An executor of a third party, as an installed package has it. Each job says which of its deeds it wants.
EXECUTOR: Final = '''
import json, os, signal, subprocess, sys, tempfile, time
from overmind_executors.contract import ExecutionFailed, InvalidParameters, Problem, Result, WorkStopped


class Rude:
    job_type = "rude"
    is_resumable = True

    def validate(self, parameters):
        return parameters

    def run(self, task, context):
        return getattr(self, task["do"])(task, context) or Result((), {"did": task["do"]})

    def report(self, task, context):
        (context.output / "output.txt").write_text("made")
        facts = {
            "environment": dict(os.environ),
            "arguments": sys.argv[1:],
            "cwd": os.getcwd(),
            "path": sys.path,
            "models": [[m.name, m.api_key] for m in context.models.values()],
            "input": context.input_file.read_text() if context.input_file else None,
            "input_name": context.input_name,
            "nice": os.nice(0),
            "own_session": os.getsid(0) == os.getpid(),
        }
        return Result(("output.txt",), facts)

    def speak(self, task, context):
        print("hello from the job", flush=True)
        print("and from its other mouth", file=sys.stderr, flush=True)

    def progress(self, task, context):
        context.report(3, 7, "rows")

    def search(self, task, context):
        for number in range(3):
            text = "x" * task["letters"] + chr(0xD800)
            context.tell_iteration({"iteration_name": f"i{number}", "order": number, "agent_code": text})
        context.tell_iteration({"iteration_name": "odd", "order": object()})

    def aside(self, task, context):
        """Puts a copy of something where temporary files go, and dies of it."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"a copy of a secret")
        (context.state / "place").write_text(file.name)
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(self, task, context):
        raise ExecutionFailed("no luck", reason=task["reason"])

    def refuse(self, task, context):
        raise InvalidParameters(Problem("rows", "none"))

    def break_(self, task, context):
        raise RuntimeError("a bug")

    def signal(self, task, context):
        os.kill(os.getpid(), task["number"])
        time.sleep(60)

    def exit(self, task, context):
        os._exit(task["code"])

    def leave(self, task, context):
        with open("result.json", "w") as file:
            file.write(task["text"])
        os._exit(0)

    def hang(self, task, context):
        context.report(1, 1, "begun")
        context.stop.wait(60)
        raise WorkStopped

    def finish(self, task, context):
        context.report(1, 1, "begun")
        context.stop.wait(60)

    def ignore(self, task, context):
        context.report(1, 1, "begun")
        while True:
            time.sleep(60)

    def freeze(self, task, context):
        """Stops itself, once what it says of its progress has been told."""
        context.report(1, 1, "begun")
        subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -STOP {os.getpid()}"])
        time.sleep(60)

    def hush(self, task, context):
        """Ends without a mouth of its own, and leaves one open in a process that lives on."""
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        os.close(1)
        os.close(2)

    def stray(self, task, context):
        """A process in a session of its own whose parent is gone and which does not hear SIGTERM."""
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(writer, str(os.getpid()).encode())
                os.close(writer)
                time.sleep(600)
            os._exit(0)
        os.wait()
        pid = int(os.read(reader, 20))
        if task.get("then") == "die":
            with open("stray", "w") as file:
                file.write(str(pid))
            os.kill(os.getpid(), signal.SIGKILL)
        return Result((), {"pid": pid})

    def hundred(self, task, context):
        """A hundred processes, each in a session of its own and without a parent."""
        script = "for number in $(seq 100); do setsid sleep 600 > /dev/null & echo $!; done"
        told = subprocess.run(["sh", "-c", script], stdout=-1, text=True)
        return Result((), {"pids": [int(pid) for pid in told.stdout.split()]})

    def multiply(self, task, context):
        """A process in a session of its own that is gone before it can be looked at: it goes on as its child."""
        if os.fork() == 0:
            os.setsid()
            ends_at = time.monotonic() + 60
            while time.monotonic() < ends_at:
                if os.fork() > 0:
                    os._exit(0)
            os._exit(0)

    def hidden(self, task, context):
        """A process in a session of its own that has no mark of the job."""
        pid = subprocess.Popen(["sleep", "600"], env=task.get("env", {}), start_new_session=True).pid
        return Result((), {"pid": pid})

    def evade(self, task, context):
        """Whatever does not want to go, at once."""
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.stray(task, context)
        self.hidden(task, context)
        self.family(task, context)
        self.hundred(task, context)
        self.multiply(task, context)
        frozen = subprocess.Popen(["sleep", "600"], start_new_session=True)
        os.kill(frozen.pid, signal.SIGSTOP)
        self.ignore(task, context)

    def stop(self, task, context):
        raise WorkStopped

    def orphan(self, task, context):
        """A process that loses its parent and then ends by itself."""
        subprocess.run(["sh", "-c", "sleep 0.05 &"], check=True)
        time.sleep(0.2)

    def family(self, task, context):
        """Children and grandchildren in the same group, still there at the end."""
        started = [subprocess.Popen(["sleep", "600"]).pid for _ in range(3)]
        return Result((), {"pids": started})

    def junk(self, task, context):
        events = int(sys.argv[sys.argv.index("--events-fd") + 1])
        os.set_blocking(events, True)
        for line in task["lines"]:
            os.write(events, line.encode() + b"\\n")
'''


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package with that executor is installed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "rude_executor.py").write_text(EXECUTOR)
    info = folder / "rude_executor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rude-executor\nVersion: 1.0\n")
    points = """
        [overmind_agent.executors]
        rude = rude_executor:Rude
        """
    (info / "entry_points.txt").write_text(textwrap.dedent(points))
    return folder


@pytest.fixture(scope="module")
def guarded() -> Iterator[None]:
    """This process as the agent is; and then as it was."""
    processes.guard_this_process()
    yield
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def nursery(guarded: None, installed: Path) -> Iterator[Nursery]:
    """One that is ready, with that executor imported."""
    with opened(environment_of(installed), ["rude"]) as made:
        yield made


class Host:
    """A launcher over one workspace."""

    def __init__(self, workspace: Workspace, installed: Path, nursery: Nursery | None) -> None:
        self.workspace = workspace
        self.nursery = nursery
        self.settings = ChildSettings(
            models=[ModelEndpoint("big", "http://127.0.0.1:1", "m", api_key="sk-canary-of-the-model")],
            data_roots=[],
            environment=environment_of(installed),
            grace_s=10.0,
            nice=0,
            owner="test",
        )
        self.progress: list[Progress] = []
        self.begun = threading.Event()
        self.stop: StopReason | None = None
        self.asked_at_s = 0.0
        self.steps: list[Mapping[str, Any]] = []
        self.memory_kills: Iterator[int | None] = repeat(None)

    def run(self, do: str, **parameters: Any) -> Result:
        """Do one of the deeds."""
        clock = SystemClock(threading.Event())
        launcher = ProcessLauncher(
            self.settings,
            clock,
            structlog.get_logger(),
            self.nursery,
            count_memory_kills=lambda: next(self.memory_kills),
        )
        return launcher.run(
            a_claim(job_type="rude"),
            {"do": do, **parameters},
            self.workspace,
            on_progress=self._on_progress,
            on_iteration=self.steps.append,
            stop_reason=lambda: self.stop,
        )

    def stopping(self, reason: StopReason) -> None:
        """Ask the work to stop as soon as it has begun."""
        self._wish = reason

    _wish: StopReason | None = None

    def _on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.stop, self.asked_at_s = self._wish, time.monotonic()

    def set(self, **changes: Any) -> None:
        """Other settings."""
        self.settings = replace(self.settings, **changes)


def environment_of(installed: Path) -> dict[str, str]:
    """What the owner of the host gives to all jobs."""
    return {"PYTHONPATH": str(installed), "EXTRA": "yes"}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspaces = DiskWorkspaces(tmp_path / "jobs")
    with workspaces.open(a_claim().job, a_file("rows.jsonl")) as workspace:
        workspace.input_file.write_text("a row")
        yield workspace


@pytest.fixture
def host(workspace: Workspace, installed: Path, nursery: Nursery) -> Host:
    """Its children are forked."""
    return Host(workspace, installed, nursery)


@pytest.fixture(params=["started", "forked"])
def either_host(request: pytest.FixtureRequest, workspace: Workspace, installed: Path, nursery: Nursery) -> Host:
    """One of each: a child is the same, however it came to be."""
    return Host(workspace, installed, nursery if request.param == "forked" else None)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie."""
    with suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def open_descriptors() -> list[str]:
    """The descriptors of this process."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def failure(what: Callable[[], object]) -> tuple[type[Exception], str]:
    """The error in which *what* ends, and its reason."""
    with pytest.raises(JobError) as caught:
        what()
    return type(caught.value), caught.value.reason


# ------------------------------------------------------------------------------------ a clean start


def test_a_job_is_done_in_its_own_folder_with_what_it_was_given(either_host: Host) -> None:
    result = either_host.run("report")

    assert ["output.txt", "manifest.json"] == [file.name for file in result.files]
    assert either_host.workspace.output / "output.txt" == result.files[0].path
    assert "made" == result.files[0].path.read_text()
    assert str(either_host.workspace.folder) == result.outcome["cwd"]
    assert ("a row", "rows.jsonl") == (result.outcome["input"], result.outcome["input_name"])
    assert result.outcome["own_session"]


def test_the_environment_is_exactly_what_it_should_be(either_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the agent's own environment: that is where its token may be."""
    monkeypatch.setenv("OVERMIND_API_KEY", "ovr_canary")
    monkeypatch.setenv("LD_PRELOAD", "/nowhere")

    found = either_host.run("report").outcome["environment"]

    mark = found.pop("OVERMIND_JOB_MARK")
    assert mark.startswith(f"test#{a_claim().job.id}/1/")
    found.pop("LC_CTYPE", None)  # Python sets it for itself
    assert {
        "LANG": "C.UTF-8",
        "PATH": SAFE_PATH,
        "PYTHONPATH": either_host.settings.environment["PYTHONPATH"],
        "EXTRA": "yes",
        "HOME": str(either_host.workspace.folder),
        "TMPDIR": str(either_host.workspace.temporary),
        "OVERMIND_JOB_ID": a_claim().job.id,
        "OVERMIND_JOB_ATTEMPT": "1",
        "TRACEPARENT": str(tracing.of_claim(a_claim())),
    } == found


def test_a_hosts_setting_does_not_move_a_job_out_of_its_folder(either_host: Host) -> None:
    either_host.set(environment={**either_host.settings.environment, "HOME": "/root", "OVERMIND_JOB_ID": "x"})

    found = either_host.run("report").outcome["environment"]

    assert (str(either_host.workspace.folder), a_claim().job.id) == (found["HOME"], found["OVERMIND_JOB_ID"])


def test_keys_reach_the_job_and_touch_neither_disk_nor_command_line(either_host: Host) -> None:
    result = either_host.run("report")

    told = result.outcome
    assert [["big", "sk-canary-of-the-model"]] == told["models"]
    assert "sk-canary" not in str(told["environment"]) + str(told["arguments"])
    # the job's own result says it here; nothing else does
    either_host.workspace.result.unlink()
    found = [p for p in either_host.workspace.folder.rglob("*") if p.is_file() and b"sk-canary" in p.read_bytes()]
    assert [] == found


def test_a_users_module_does_not_shadow_pythons(either_host: Host) -> None:
    """`python -P`: the working folder is not on the path."""
    (either_host.workspace.folder / "json.py").write_text("raise SystemExit('shadowed')")

    assert str(either_host.workspace.folder) not in either_host.run("report").outcome["path"]


def test_a_job_gives_way_to_heartbeats(either_host: Host) -> None:
    either_host.set(nice=5)

    assert os.nice(0) + 5 == either_host.run("report").outcome["nice"]


def test_what_a_job_prints_is_its_log(either_host: Host) -> None:
    either_host.run("speak")

    assert ["hello from the job", "and from its other mouth"] == either_host.workspace.log.read_text().splitlines()


def test_progress_is_passed_on(either_host: Host) -> None:
    either_host.run("progress")

    assert Progress(3, 7, "rows") == either_host.progress[-1]


# ------------------------------------------------------------------------------------ how it ends


@pytest.mark.parametrize(
    ("do", "parameters", "kind", "reason"),
    [
        ("fail", {"reason": "provider_unavailable"}, ExecutorError, "provider_unavailable"),
        ("fail", {"reason": "Not A Reason!"}, ExecutorError, "executor_error"),
        ("fail", {"reason": "x" * 65}, ExecutorError, "executor_error"),
        ("fail", {"reason": ""}, ExecutorError, "executor_error"),
        ("refuse", {}, InvalidInput, "invalid_input"),
        ("break_", {}, ExecutorError, "executor_error"),
        ("no_such_deed", {}, ExecutorError, "executor_error"),
        ("signal", {"number": signal.SIGKILL}, ExecutorError, "killed_by_signal"),
        ("signal", {"number": signal.SIGSEGV}, ExecutorError, "killed_by_signal"),
        ("signal", {"number": signal.SIGABRT}, ExecutorError, "killed_by_signal"),
        ("exit", {"code": 0}, ExecutorError, "no_result"),
        ("exit", {"code": 3}, ExecutorError, "no_result"),
    ],
)
def test_a_job_that_fails_says_why(
    host: Host, do: str, parameters: Mapping[str, Any], kind: type[Exception], reason: str
) -> None:
    """A reason that is not from the closed form would be refused by the control plane, and the failure with it."""
    assert (kind, reason) == failure(lambda: host.run(do, **parameters))


@pytest.mark.parametrize(
    ("number", "counts", "reason"),
    [
        (signal.SIGKILL, (3, 4), "out_of_memory"),
        (signal.SIGKILL, (3, 3), "killed_by_signal"),
        (signal.SIGABRT, (3, 4), "killed_by_signal"),
    ],
)
def test_a_kill_for_want_of_memory_is_told_apart_by_the_kernels_count(
    host: Host, number: int, counts: tuple[int, int], reason: str
) -> None:
    host.memory_kills = iter(counts)

    assert (ExecutorError, reason) == failure(lambda: host.run("signal", number=number))


def test_a_job_type_that_is_not_installed_fails(workspace: Workspace, installed: Path) -> None:
    host = Host(workspace, installed, None)
    host.set(environment={})

    assert (ExecutorError, "unknown_job_type") == failure(lambda: host.run("report"))


A_FILE: Final = '{"name": %s, "size_bytes": 1, "sha256": "' + "0" * 64 + '"}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"status": "done"}',
        '{"status": "done", "files": 7, "outcome": {}}',
        '{"status": "done", "files": [], "outcome": 7}',
        '{"status": "done", "files": [1], "outcome": {}}',
        '{"status": "done", "files": [{}], "outcome": {}}',
        '{"status": "done", "files": [%s], "outcome": {}}' % (A_FILE % '"../../etc/passwd"'),
        '{"status": "done", "files": [%s], "outcome": {}}' % (A_FILE % '"/etc/passwd"'),
        '{"status": "done", "files": [%s], "outcome": {}}' % (A_FILE % '".."'),
        '{"status": "done", "files": [%s], "outcome": {}}' % (A_FILE % '""'),
        '{"status": "done", "files": [%s], "outcome": {}}' % (A_FILE % '"C:\\\\x"'),
        '{{"status": "done", "files": [{}], "outcome": {{}}}}'.format(", ".join([A_FILE % '"a"'] * 2)),
        '{"status": "done", "files": [], "outcome": {"mean": NaN}}',
        '{"status": "failed"}',
        '{"status": "done", "files": [], "outcome": {"long": "%s"}}' % ("x" * (1 << 20)),
    ],
    ids=lambda text: text[:60] or "empty",
)
def test_a_result_that_is_none_fails_the_job(host: Host, text: str) -> None:
    assert (ExecutorError, "invalid_result") == failure(lambda: host.run("leave", text=text))


def test_finished_work_is_not_done_again(host: Host) -> None:
    first = host.run("report")
    (host.workspace.output / "output.txt").write_text("kept")

    second = host.run("report")

    assert first == second
    assert "kept" == (host.workspace.output / "output.txt").read_text()


def test_a_failure_is_not_tried_again(host: Host) -> None:
    first = failure(lambda: host.run("fail", reason="no_luck"))

    assert first == failure(lambda: host.run("report"))


@pytest.mark.parametrize("left", ['{"status": "stopped"}', None], ids=["stopped", "nothing"])
def test_work_that_was_not_finished_is_done(host: Host, left: str | None) -> None:
    if left is not None:
        host.workspace.result.write_text(left)

    assert {"did": "progress"} == host.run("progress").outcome


def test_a_result_that_is_a_link_or_a_folder_is_none(host: Host) -> None:
    host.workspace.result.mkdir()

    with pytest.raises(ExecutorError):
        read_result(host.workspace)


def test_a_result_that_would_block_is_none(host: Host) -> None:
    """A FIFO in its place must not hold a slot, and the agent's end, for ever."""
    os.mkfifo(host.workspace.result)

    assert (ExecutorError, "invalid_result") == failure(lambda: read_result(host.workspace))
    assert has_ended(host.workspace)


@pytest.mark.parametrize(
    "line",
    [
        {"size_bytes": -1},
        {"size_bytes": 2**62},
        {"size_bytes": True},
        {"size_bytes": 6},
        {"sha256": "zz"},
        {"name": "x" * 256},
    ],
    ids=str,
)
def test_a_result_whose_files_cannot_be_so_is_none(host: Host, line: dict[str, object]) -> None:
    """The control plane would refuse it, and the job would be lost and run again."""
    host.workspace.output.mkdir(parents=True, exist_ok=True)
    (host.workspace.output / "a.txt").write_text("five!")
    good = {"name": "a.txt", "size_bytes": 5, "sha256": "0" * 64}
    host.workspace.result.write_text(json.dumps({"status": "done", "files": [good | line], "outcome": {}}))

    assert (ExecutorError, "invalid_result") == failure(lambda: read_result(host.workspace))


def test_a_result_of_more_files_than_can_be_declared_is_none(host: Host) -> None:
    """The control plane would refuse to hear of them, and nobody would learn why."""
    lines = [
        {"name": f"{number:07}.json", "size_bytes": 0, "sha256": "0" * 64, "is_required": True, "is_model": False}
        for number in range(10_001)
    ]
    host.workspace.result.write_text(json.dumps({"status": "done", "files": lines[1:], "outcome": {}}))
    assert 10_000 == len(read_result(host.workspace).files)

    host.workspace.result.write_text(json.dumps({"status": "done", "files": lines, "outcome": {}}))

    assert (ExecutorError, "invalid_result") == failure(lambda: read_result(host.workspace))


def test_work_that_stops_unasked_has_failed(host: Host) -> None:
    """Given back, it would be taken again at once, for ever."""
    assert (ExecutorError, "executor_error") == failure(lambda: host.run("stop"))


def test_a_signal_without_a_name_is_told_by_its_number(host: Host) -> None:
    with pytest.raises(ExecutorError, match="killed by signal 40"):
        host.run("signal", number=40)


# ------------------------------------------------------------------------------------ being stopped


@pytest.mark.parametrize("reason", [StopReason.USER_REQUEST, StopReason.AGENT_STOPPING, StopReason.LEASE_LOST])
def test_a_wish_to_stop_reaches_the_work(host: Host, reason: StopReason) -> None:
    host.stopping(reason)

    with pytest.raises(Stopped) as caught:
        host.run("hang")

    assert reason is caught.value.reason
    assert not has_ended(host.workspace)


def test_work_that_closes_its_output_or_leaves_it_open_elsewhere_ends_when_it_ends(host: Host) -> None:
    """Nobody waits for the end of what it prints: that is a file."""
    assert {"did": "hush"} == host.run("hush").outcome


def test_work_that_does_not_listen_is_killed_after_its_grace(host: Host) -> None:
    """It has stopped itself."""
    host.set(grace_s=0.8)
    host.stopping(StopReason.USER_REQUEST)

    with pytest.raises(Stopped) as caught:
        host.run("freeze")

    assert StopReason.USER_REQUEST is caught.value.reason


def test_of_eight_kinds_that_will_not_go_none_is_left_two_seconds_after_the_grace(host: Host) -> None:
    """With the ten seconds that work has by default, all is gone twelve seconds after its time was over."""
    host.set(grace_s=0.5)
    host.stopping(StopReason.TIMEOUT)

    with pytest.raises(Stopped) as caught:
        host.run("evade")
    took_s = time.monotonic() - host.asked_at_s

    assert StopReason.TIMEOUT is caught.value.reason
    assert [] == [pid for pid in processes_of(host.workspace.folder) if is_alive(pid)]
    assert took_s < 0.5 + 2


def test_work_whose_lease_is_lost_is_gone_before_the_lease_ends_whatever_its_grace(host: Host) -> None:
    """It is asked ten seconds before that, and a test that waited for its grace would not end."""
    host.set(grace_s=3600.0)
    host.stopping(StopReason.LEASE_LOST)

    with pytest.raises(Stopped):
        host.run("ignore")

    assert [] == [pid for pid in processes_of(host.workspace.folder) if is_alive(pid)]
    assert LOST_GRACE_S <= MARGIN_S - 5


@pytest.mark.parametrize(
    ("reason", "is_kept"),
    [
        (StopReason.AGENT_STOPPING, True),
        (StopReason.USER_REQUEST, False),
        (StopReason.LEASE_LOST, False),
    ],
)
def test_work_that_ends_in_the_moment_of_the_wish_is_kept_if_anybody_wants_it(
    host: Host, reason: StopReason, is_kept: bool
) -> None:
    host.stopping(reason)

    if is_kept:
        assert {"did": "finish"} == host.run("finish").outcome
    else:
        with pytest.raises(Stopped):
            host.run("finish")


# ------------------------------------------------------------------------------------ nothing outlives a job


def test_a_process_that_forked_twice_into_its_own_session_is_killed(either_host: Host) -> None:
    pid = either_host.run("stray").outcome["pid"]

    assert not is_alive(pid)


def test_a_hundred_orphans_are_killed_and_let_go_of(host: Host) -> None:
    """None is left, not even as an entry that nobody has waited for."""
    pids = host.run("hundred").outcome["pids"]

    assert 100 == len(pids)
    assert [] == [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_process_that_always_goes_on_as_its_child_is_killed(either_host: Host) -> None:
    either_host.run("multiply")

    assert [] == [pid for pid in processes_of(either_host.workspace.folder) if is_alive(pid)]


def processes_of(folder: Path) -> list[int]:
    """Those that work in *folder*."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("env", [{}, {processes.MARK: "/state/made#up/1/xyz"}])
def test_a_process_that_hid_its_mark_is_killed(either_host: Host, env: dict[str, str]) -> None:
    pid = either_host.run("hidden", env=env).outcome["pid"]

    assert not is_alive(pid)


def test_what_outlived_an_agent_is_found_by_the_next_one() -> None:
    """And only that: the mark begins with the state folder, which is this agent's alone."""
    marks = ("/state/one#job/1/xyz", "/state/two#job/1/xyz")
    left, other = (subprocess.Popen(["/bin/sleep", "600"], env={processes.MARK: mark}) for mark in marks)
    try:
        found = processes.end_strangers("/state/one#")

        assert (1, -signal.SIGKILL) == (found, left.wait(20))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_stray_is_killed_also_when_its_job_was(either_host: Host) -> None:
    assert (ExecutorError, "killed_by_signal") == failure(lambda: either_host.run("stray", then="die"))

    assert not is_alive(int((either_host.workspace.folder / "stray").read_text()))


def test_what_a_job_started_in_its_group_is_killed(either_host: Host) -> None:
    pids = either_host.run("family").outcome["pids"]

    assert [False] * 3 == [is_alive(pid) for pid in pids]


def test_temporary_files_go_with_the_processes_that_made_them(either_host: Host) -> None:
    """However these end: a copy of a secret among them, and files that would fill the disk."""
    assert (ExecutorError, "killed_by_signal") == failure(lambda: either_host.run("aside"))

    place = Path((either_host.workspace.state / "place").read_text())
    assert either_host.workspace.temporary == place.parent
    assert not either_host.workspace.temporary.exists()


def test_processes_of_others_are_left_alone(either_host: Host) -> None:
    """Another job's process is a child of the agent as well."""
    mark = "another-job/1/xyz"
    other = os.posix_spawn("/bin/sleep", ["sleep", "600"], {processes.MARK: mark}, setsid=True)
    try:
        with processes.marked(mark):
            either_host.run("stray")
            survived = is_alive(other)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)

    assert survived


@pytest.mark.parametrize(("do", "then"), [("stray", None), ("stray", "die"), ("orphan", None)])
def test_no_zombie_is_left(either_host: Host, do: str, then: str | None) -> None:
    """A daemon that runs for months would have no process numbers left."""
    with suppress(ExecutorError):
        either_host.run(do, then=then)

    deadline = time.monotonic() + 10
    while zombies() and time.monotonic() < deadline:
        either_host.workspace.result.unlink(missing_ok=True)
        either_host.run("progress")  # one that was still dying is let go of with the next job

    assert [] == zombies()


def zombies() -> list[int]:
    """The children of this process that have ended and that nobody waited for."""
    listings = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for listing in listings for pid in listing.read_text().split()]
    return [pid for pid in pids if not is_alive(pid)]


def test_the_exit_code_of_another_slots_child_is_left_to_it(either_host: Host) -> None:
    other = processes.start(["/bin/sh", "-c", "exit 7"])
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

    either_host.run("progress")

    assert 7 == other.wait(10)
    processes.let_go(other)


def test_a_job_starts_although_its_nursery_died(workspace: Workspace, installed: Path, guarded: None) -> None:
    """And the one after that as well."""
    with opened(environment_of(installed), ["rude"]) as nursery:
        host = Host(workspace, installed, nursery)
        assert nursery.pid is not None
        os.kill(nursery.pid, signal.SIGKILL)

        first = host.run("progress").outcome
        workspace.result.unlink()
        second = host.run("speak").outcome

    assert ({"did": "progress"}, {"did": "speak"}) == (first, second)


def test_no_descriptor_is_left(either_host: Host) -> None:
    either_host.run("progress")
    before = open_descriptors()

    either_host.workspace.result.unlink()
    failure(lambda: either_host.run("exit", code=1))

    assert before == open_descriptors()


# ------------------------------------------------------------------------------------ events


def progress_line(**changes: Any) -> str:
    return json.dumps({"event": "progress", "step": 1, "total_steps": 2, "step_name": "ok", **changes})


GOOD: Final = progress_line()

JUNK: Final = [
    "",
    "not json",
    "null",
    "[]",
    "7",
    '"progress"',
    "{}",
    '{"event": "dance"}',
    '{"event": "progress"}',
    '{"event": ["progress"]}',
    progress_line(step=-1),
    progress_line(step="x"),
    progress_line(step=None),
    progress_line(step=[1]),
    progress_line(total_steps=-5),
    progress_line(step=True),
    progress_line(step=1.5),
    progress_line(step=10**30),
    progress_line(step=1e300),
    progress_line(total_steps=1e300),
    '{"event": "progress", "step": NaN, "total_steps": 1, "step_name": "x"}',
    '{"event": "progress", "step": 1e999, "total_steps": 1, "step_name": "x"}',
    r'{"event": "progress", "step": 1, "total_steps": 1, "step_name": "\ud800"}',
    "[" * 5000,
    "x" * 200_000,
]


@pytest.mark.parametrize("line", JUNK, ids=lambda line: line[:50] or "empty")
def test_an_event_that_is_none_of_ours_is_ignored(line: str) -> None:
    """A number beyond 64 bits would be refused by the control plane, and with it the heartbeat of every job."""
    assert [Progress(1, 2, "ok")] == read_events(line.encode() + b"\n" + GOOD.encode() + b"\n")


FIGURES: Final = [
    ({"usd": 0.41, "eta_s": 310}, (0.41, 310.0)),
    ({"usd": 0, "eta_s": None}, (0.0, None)),
    ({"usd": "0.41", "eta_s": -1}, (None, None)),
    ({"usd": True, "eta_s": 1e300}, (None, None)),
    ({"usd": [1], "eta_s": 10**15}, (None, None)),
]


@pytest.mark.parametrize(("told", "heard"), FIGURES)
def test_a_figure_that_is_none_is_left_out_and_the_step_is_told(
    told: Mapping[str, Any], heard: tuple[float | None, float | None]
) -> None:
    assert [Progress(1, 2, "ok", *heard)] == read_events(progress_line(**told).encode() + b"\n")


def read_events(content: bytes) -> list[Progress]:
    found: list[Progress] = []
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as out:
            out.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        events = EventReader(pipe, found.append, lambda _step: None)
        while select.select([pipe], [], [], 10)[0] and events.read():
            pass
    thread.join(10)
    return found


@pytest.mark.parametrize(("letters", "is_whole"), [(10, True), (50_000, True), (70_000, False)])
def test_the_steps_of_a_search_are_told_whatever_their_length(host: Host, letters: int, is_whole: bool) -> None:
    """Far more than a pipe holds comes whole; of a step that is longer than a line may be, the text is left out."""
    host.run("search", letters=letters)

    assert ["i0", "i1", "i2"] == [step["iteration_name"] for step in host.steps]
    code = {"agent_code": "x" * letters + "?"} if is_whole else {}
    assert {"iteration_name": "i2", "order": 2, **code} == host.steps[2]


def test_an_event_may_come_in_pieces() -> None:
    found: list[Progress] = []
    reader, writer = os.pipe()
    raw = (GOOD + "\n").encode()

    with os.fdopen(reader, "rb", buffering=0) as pipe:
        events = EventReader(pipe, found.append, lambda _step: None)
        for number in range(len(raw)):
            os.write(writer, raw[number : number + 1])
            events.read()
        os.close(writer)

    assert [Progress(1, 2, "ok")] == found


@pytest.mark.parametrize(("levels", "is_told"), [(59, True), (60, False)])
def test_a_step_that_is_too_deep_for_a_heartbeat_is_not_told(levels: int, is_told: bool) -> None:
    found: list[Mapping[str, Any]] = []
    reader, writer = os.pipe()
    scores = json.loads('{"a":' * levels + "1" + "}" * levels)
    os.write(writer, json.dumps({"event": "iteration", "fields": {"dimension_scores": scores}}).encode() + b"\n")
    os.close(writer)

    with os.fdopen(reader, "rb", buffering=0) as pipe:
        EventReader(pipe, lambda _progress: None, found.append).read()

    beat = {"slots": 1, "jobs": [{"job_id": "a", "attempt": 1, "iterations": found}]}
    assert is_told == bool(found)
    assert wire.parse(wire.Heartbeat, json.dumps(beat).encode())


def test_a_long_name_of_a_step_is_cut() -> None:
    (found,) = read_events((progress_line(step_name="x" * 1000) + "\n").encode())

    assert "x" * 255 == found.step_name


def test_a_child_that_talks_nonsense_is_not_hindered(host: Host) -> None:
    result = host.run("junk", lines=[*JUNK[:12], GOOD])

    assert {"did": "junk"} == result.outcome
    assert Progress(1, 2, "ok") in host.progress
