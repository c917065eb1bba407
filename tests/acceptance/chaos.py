"""
Real agents and a real control plane, and somebody who kills, freezes and spoils what passes between them.

```
driver ── starts ── control plane ◀── fault proxy ◀── agents ── children, which write to a ledger
   └── nemesis: kills and freezes agents, kills the control plane, kills children
```

When all jobs have ended the record, the ledger and the nemesis' own log are read, and the rules about histories are
applied to them. The decisions follow from the seed; the moments at which they fall do not.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from host import Agent, Host
from plane_files import make_jobs

from overmind_agent.testing import history, invariants
from overmind_agent.testing.fault_proxy import FaultProxy, Plan, Seeded
from overmind_agent.testing.faults import FAULTS
from server import ControlPlaneProcess, Tokens

PYTHON_PATH = Path(__file__).parents[1] / "kit" / "python_path"
MODEL = b"a model file"
FOR_EVER_S = 1e9
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CONFIG = """
job_types = ["ledger"]
job_env = ["PYTHONPATH"]
min_free_bytes = 0
nice = 0
slots = {slots}
"""
PLANE_CONFIG = "poll_wait_s = 2\nheartbeat_s = 1\n"
# A burst of 401 makes an agent wait for a minute, as it should; that has tests of its own.
MIXED = tuple(fault for fault in FAULTS if fault not in ("unauthorized", "thrice", "huge"))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """
    What is disturbed, and how much.

    Attributes:
        work_s: the shortest and the longest time that a job works.
        faults: which part of all requests meets one of MIXED.
        every_s: for each thing the nemesis does, how many seconds pass between two of them on average.
        freeze_s: the shortest and the longest freeze.
        storm_s: how long the nemesis acts and the network is bad, at most: they end when few jobs are left.
        patience_s: after which it is a failure that jobs have not ended; from the start of the agents.
        settle_s: what the last jobs may take when all is calm again.
        projects: which the jobs, and the agents, belong to in turn.
    """

    agents: int
    slots: int = 2
    jobs: int
    work_s: tuple[float, float] = (0.0, 0.2)
    size_bytes: int = 4096
    lease_s: float = 10.0
    faults: float = 0.0
    every_s: dict[str, float] = field(default_factory=dict)
    freeze_s: tuple[float, float] = (0.5, 2.0)
    storm_s: float = 90.0
    patience_s: float = 240.0
    settle_s: float = 60.0
    projects: int = 1


@dataclass(frozen=True)
class Ran:
    """
    What came of a run.

    Attributes:
        done: how often the nemesis did what.
        faults: how often the proxy did what.
        refused: how often the control plane refused a call with which code.
        ends: how many jobs ended how.
        strange: the agents that know of a job of another project.
    """

    history: history.History
    done: Counter[str]
    faults: Counter[str]
    refused: Counter[str]
    ends: Counter[str]
    took_s: float
    strange: list[str]

    def __str__(self) -> str:
        runs = Counter(effect.what for effect in self.history.effects)
        return (
            f"{self.took_s:.0f} s; jobs {dict(self.ends)}; runs {dict(runs)}; nemesis {dict(self.done)}; "
            f"faults {sum(self.faults.values())} of {len(self.faults)} kinds; refused {dict(self.refused)}"
        )


class Machine:
    """One agent: a host of its own, started again whenever it was killed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = host.folder.name
        self.agent: Agent | None = None
        self.frozen_until_s = 0.0
        self.starts_at_s = 0.0
        self._starts: list[Agent] = []

    def start(self) -> None:
        """Start the agent."""
        self.agent = self.host.start("--log-level", "info", PYTHONPATH=str(PYTHON_PATH))
        self._starts.append(self.agent)

    def write_log(self) -> None:
        """What all its starts have said, for whoever looks into a run that failed."""
        lines = [line for agent in self._starts for line in (*agent.out, *agent.raw)]
        (self.host.folder / "log.jsonl").write_text("\n".join(lines))

    def is_up(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self.agent is not None and self.agent.process.poll() is None


class Nemesis:
    """
    Disturbs, as *profile* says.

    Attributes:
        log: what was done to whom.
    """

    def __init__(self, profile: Profile, seed: int, machines: list[Machine], plane: ControlPlaneProcess) -> None:
        self._profile = profile
        self._draw = random.Random(f"nemesis/{seed}")
        self._machines = machines
        self._plane = plane
        self._due = {what: time.monotonic() + self._wait_s(what) for what in profile.every_s}
        self.log: list[history.Disturbance] = []

    def act(self) -> None:
        """Do what is due by now, and end what has lasted long enough."""
        now_s = time.monotonic()
        for what, due_s in self._due.items():
            if now_s >= due_s:
                ACTS[what](self)
                self._due[what] = time.monotonic() + self._wait_s(what)
        self.mend(now_s)

    def mend(self, now_s: float) -> None:
        """Wake who was frozen and start who was killed, if it is time for it."""
        for machine in self._machines:
            if machine.frozen_until_s and now_s >= machine.frozen_until_s:
                machine.frozen_until_s = 0.0
                assert machine.agent is not None
                machine.agent.signal(signal.SIGCONT)
            if machine.starts_at_s and now_s >= machine.starts_at_s:
                machine.starts_at_s = 0.0
                machine.start()

    def kill_agent(self) -> None:
        """`kill -9`; the service manager starts it again a moment later."""
        if machine := self._any():
            assert machine.agent is not None
            self._note("kill", machine.name, lasting_s=3.0)
            machine.agent.signal(signal.SIGKILL)
            machine.agent.exit_code()
            machine.frozen_until_s = 0.0
            machine.starts_at_s = time.monotonic() + self._draw.uniform(0.0, 0.5)

    def freeze_agent(self) -> None:
        """SIGSTOP, and SIGCONT after a while; its children work on."""
        if machine := self._any():
            assert machine.agent is not None
            seconds = self._draw.uniform(*self._profile.freeze_s)
            self._note("freeze", machine.name, lasting_s=seconds)
            machine.agent.signal(signal.SIGSTOP)
            machine.frozen_until_s = time.monotonic() + seconds

    def kill_child(self) -> None:
        """The kernel ends a job that takes too much memory."""
        machine = self._any()
        if machine and (children := machine.host.children()):
            self._note("kill child", machine.name)
            with suppress(ProcessLookupError):
                os.kill(self._draw.choice(children), signal.SIGKILL)

    def kill_server(self) -> None:
        """The control plane is killed and comes back on the same port."""
        self._note("kill", "server", lasting_s=5.0)
        self._plane.kill()
        self._plane.restart()

    def _any(self) -> Machine | None:
        up = [m for m in self._machines if m.is_up() and not m.frozen_until_s]
        return self._draw.choice(up) if up else None

    def _wait_s(self, what: str) -> float:
        return self._draw.expovariate(1 / self._profile.every_s[what])

    def _note(self, kind: str, whom: str, *, lasting_s: float = 0.0) -> None:
        self.log.append(invariants.disturbed(kind, whom, time.time(), lasting_s=lasting_s))


ACTS: dict[str, Callable[[Nemesis], None]] = {
    "kill": Nemesis.kill_agent,
    "freeze": Nemesis.freeze_agent,
    "kill child": Nemesis.kill_child,
    "kill server": Nemesis.kill_server,
}


def run(
    profile: Profile,
    seed: int,
    folder: Path,
    plane: ControlPlaneProcess,
    *,
    plan: Plan | None = None,
    meanwhile: Callable[[float], object] = lambda _now_s: None,
) -> Ran:
    """
    One run of *profile* from its first job to its last, with *plane*, which grants leases of its `lease_s`.

    Args:
        plan: of the proxy; by default as the profile says.
        meanwhile: called again and again while it goes on.
    """
    ledger = folder / "ledger"
    tokens = [plane.tokens, *(plane.new_project() for _ in range(1, profile.projects))]
    job_ids = [
        _submit(replace(profile, jobs=profile.jobs // len(tokens)), plane.url, one, ledger) for one in tokens
    ]
    spoil = plan or Seeded(seed, rate=profile.faults, kinds=MIXED)
    with FaultProxy(plane.url, spoil) as proxy:
        machines = [
            Machine(_host(folder / f"agent-{number}", proxy.url, tokens[number % len(tokens)], profile))
            for number in range(profile.agents)
        ]
        began_s = time.monotonic()
        try:
            for machine in machines:
                machine.start()
            nemesis = Nemesis(profile, seed, machines, plane)
            calm_at_s = _go_on(profile, nemesis, plane, proxy, began_s, meanwhile)
            took_s = time.monotonic() - began_s
            _end(machines)
            left = [*_left_over(machines, plane, was_killed="kill server" in profile.every_s)]
        finally:
            for machine in machines:
                machine.host.stop_all()
                machine.write_log()
    record = history.read(
        plane.data / "control-plane.db",
        ledger,
        disturbances=nemesis.log,
        is_noisy=bool(profile.faults),
        left_over=left,
        leaks=_leaks(folder, plane),
        calm_at_s=calm_at_s,
        settle_s=profile.settle_s,
    )
    assert {job_id for ids in job_ids for job_id in ids} == set(record.jobs)
    ends = Counter(_end_of(events[-1]) for events in record.by_job().values())
    done = Counter(f"{d.kind} {'server' if d.whom == 'server' else 'agent'}" for d in nemesis.log)
    strange = [
        machine.name for n, machine in enumerate(machines) if _knows(machine, record, job_ids[n % len(tokens)])
    ]
    return Ran(record, done, proxy.faults, _refused(plane), ends, took_s, strange)


def _knows(machine: Machine, record: history.History, own: Iterable[str]) -> bool:
    """Whether a job that is none of its *own* is named in its state folder or in what it said."""
    files = (path.read_bytes() for path in machine.host.state.rglob("*") if path.is_file())
    said = ("\n".join([*agent.out, *agent.raw]).encode() for agent in machine.host.started)
    named = {uuid.decode() for text in (*files, *said) for uuid in UUID.findall(text)}
    return bool(named & (set(record.jobs) - set(own)))


def _end_of(event: history.Event) -> str:
    return f"{event.status.value} {event.reason}" if event.reason else event.status.value


def _submit(profile: Profile, url: str, tokens: Tokens, ledger: Path) -> list[str]:
    """The jobs, of four lengths."""
    shortest, longest = profile.work_s
    found = []
    for quarter in range(4):
        work_s = shortest + (longest - shortest) * quarter / 3
        parameters = {"ledger": str(ledger), "work_s": work_s, "size_bytes": profile.size_bytes}
        number = (profile.jobs + quarter) // 4
        found += make_jobs(url, tokens.submit, MODEL, "model.txt", parameters, job_type="ledger", number=number)
    return found


def _host(folder: Path, url: str, tokens: Tokens, profile: Profile) -> Host:
    made = Host(folder, url, tokens.agent, "http://127.0.0.1:9", more=CONFIG.format(slots=profile.slots))
    text = made.config.read_text().replace('name = "test host"', f'name = "{folder.name}"')
    made.config.write_text(text.replace("[agent]", PLANE_CONFIG + "\n[agent]", 1))
    return made


def _go_on(
    profile: Profile,
    nemesis: Nemesis,
    plane: ControlPlaneProcess,
    proxy: FaultProxy,
    began_s: float,
    meanwhile: Callable[[float], object],
) -> float:
    """Until all jobs have ended; returns when it became calm, in seconds since 1970."""
    is_calm, calm_at_s = False, time.time()
    while open_jobs := _open_jobs(plane):
        now_s = time.monotonic()
        assert now_s - began_s < profile.patience_s, f"{open_jobs} jobs have not ended; {Counter(nemesis.log)}"
        if open_jobs > profile.agents and now_s - began_s < profile.storm_s and not is_calm:
            nemesis.act()
        else:
            if not is_calm:
                is_calm, calm_at_s = True, time.time()
                proxy.plan = lambda _request: None
                nemesis.mend(now_s + FOR_EVER_S)
            nemesis.mend(now_s)
        meanwhile(now_s)
        time.sleep(0.05)
    return calm_at_s


def _open_jobs(plane: ControlPlaneProcess) -> int:
    with closing(sqlite3.connect(plane.data / "control-plane.db", timeout=30)) as db:
        words = "SELECT count(*) FROM jobs WHERE status NOT IN ('Completed', 'Failed', 'Canceled')"
        return int(db.execute(words).fetchone()[0])


def _refused(plane: ControlPlaneProcess) -> Counter[str]:
    with closing(sqlite3.connect(plane.data / "control-plane.db", timeout=30)) as db:
        words = "SELECT coalesce(code, http_status), count(*) FROM audit WHERE decision = 'refused' GROUP BY 1"
        return Counter({str(code): number for code, number in db.execute(words)})


def _end(machines: Iterable[Machine]) -> None:
    for machine in machines:
        if not machine.is_up():
            machine.start()
            assert machine.agent is not None
            machine.agent.wait_for("agent.started")
    for machine in machines:
        assert machine.agent is not None
        machine.agent.signal(signal.SIGCONT)
        machine.agent.signal(signal.SIGTERM)
    for machine in machines:
        assert machine.agent is not None
        code = machine.agent.exit_code()
        assert 0 == code, machine.agent.raw[-20:]


def _left_over(machines: Iterable[Machine], plane: ControlPlaneProcess, *, was_killed: bool) -> Iterator[str]:
    for machine in machines:
        yield from (f"process {pid} of {machine.name}" for pid in machine.host.children())
        with closing(sqlite3.connect(machine.host.state / "journal.sqlite")) as db:
            for table, which in (("outbox", "fate IS NULL"), ("claim", "state IN ('intended', 'held')")):
                (number,) = db.execute(f"SELECT count(*) FROM {table} WHERE {which}").fetchone()  # noqa: S608
                if number:
                    yield f"{number} rows of {table} of {machine.name}"
        yield from (str(path) for path in machine.host.state.rglob("*.corrupt-*"))
    if not was_killed:  # else what it was just receiving is there, and is removed after a week
        yield from (str(path) for path in (plane.data / "blobs" / "incoming").iterdir())


def _leaks(folder: Path, plane: ControlPlaneProcess) -> list[str]:
    """The files, other than its own, in which the agents' token stands."""
    canary = plane.agent_token.encode()
    roots = [folder, plane.data]
    files = {path for root in roots for path in root.rglob("*") if path.is_file() and path.name != "token"}
    return [str(path) for path in sorted(files) if canary in path.read_bytes()]
