"""
What a job that kills its agents costs the other jobs.

    .venv/bin/python benchmarks/poison.py [--agents 3] [--slots 2] [--jobs 180] [--work-s 2] [--lease-s 60]

The same run four times, each over a control plane of its own: without, with, with and without a job among the
harmless ones that ends whichever agent runs it with SIGKILL. It stands behind a third of the others. Agents that
end are started again after 5 s, as our systemd unit does it; with `--lease-s` under 5 the lease of what they held
has run out by then, and other agents have it. The throughput is that of the harmless jobs, from the first that
begins to the last that ends, as the jobs themselves note it.

Ends with 1 when the runs with the poison have 80 % or less of the throughput of the others, when a harmless job is
not COMPLETED, or when the poison does not end FAILED `attempts_exhausted` after at most three tries on all hosts.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

from host import Agent, Host, wait_until  # noqa: E402
from plane_files import make_jobs  # noqa: E402

from server import ControlPlaneProcess, start_control_plane  # noqa: E402

RESTART_S: Final = 5.0
LEAST_SHARE: Final = 0.8
MOST_TRIES: Final = 3
ENDS: Final = {"Completed", "Failed", "Canceled"}
AGENT: Final = 'job_types = ["ledger"]\njob_env = ["PYTHONPATH"]\nmin_free_bytes = 0\nslots = {slots}\n'


@dataclass(frozen=True)
class Load:
    """What is to be done: so many harmless jobs, each of so many seconds, by so many agents."""

    agents: int
    slots: int
    jobs: int
    work_s: float
    lease_s: float


@dataclass(frozen=True)
class Ran:
    """
    What came of a run.

    Attributes:
        took_s: from the first of the harmless jobs that began to the last that ended.
        incomplete: how many of them did not complete.
        restarts: how many agents were started again.
        tries: the host of each run of the poison.
        end: the poison's last status, with its reason.
    """

    took_s: float
    incomplete: int
    restarts: int
    tries: Sequence[str]
    end: tuple[str, str | None] | None


class Fleet:
    """Agents, each started again RESTART_S after it ended."""

    def __init__(self, folder: Path, plane: ControlPlaneProcess, load: Load) -> None:
        more = AGENT.format(slots=load.slots)
        self._hosts = [
            Host(folder / f"host-{number}", plane.url, plane.agent_token, "http://127.0.0.1:9", more=more)
            for number in range(load.agents)
        ]
        self._running = {host: self._start(host) for host in self._hosts}
        self._due_s: dict[Host, float] = {}
        self.restarts = 0

    def begun(self) -> None:
        """Wait until all are there."""
        for agent in self._running.values():
            agent.wait_for("agent.started")

    def tend(self) -> None:
        """Start who is down, if it is time for it."""
        for host, agent in self._running.items():
            if agent.process.poll() is None:
                continue
            if time.monotonic() >= self._due_s.setdefault(host, time.monotonic() + RESTART_S):
                del self._due_s[host]
                self._running[host] = self._start(host)
                self.restarts += 1

    def stop(self) -> None:
        """Leave nothing behind."""
        for host in self._hosts:
            host.stop_all()

    @staticmethod
    def _start(host: Host) -> Agent:
        return host.start("--log-level", "info", PYTHONPATH=str(TESTS / "kit" / "python_path"))


def run(folder: Path, load: Load, *, is_poisoned: bool) -> Ran:
    """One run, from nothing."""
    ledger = folder / "ledger"
    with start_control_plane(folder, lease_s=load.lease_s) as plane:

        def submit(number: int, **more: Any) -> list[str]:
            parameters = {"ledger": str(ledger), **more}
            return make_jobs(
                plane.url, plane.submit_token, b"", "input.txt", parameters, job_type="ledger", number=number
            )

        harmless = submit(load.jobs // 3, work_s=load.work_s)
        poison = submit(1, kills=True) if is_poisoned else []
        harmless += submit(load.jobs - len(harmless), work_s=load.work_s)
        fleet = Fleet(folder, plane, load)
        try:
            fleet.begun()

            def is_over() -> bool:
                fleet.tend()
                return _open_jobs(plane) == 0

            wait_until(is_over, timeout_s=600 + load.jobs * load.work_s)
        finally:
            fleet.stop()
        ends = _ends(plane)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    at_s = [line["at_s"] for line in lines if line["job_id"] in set(harmless)]
    return Ran(
        took_s=max(at_s) - min(at_s),
        incomplete=sum(ends[job_id][0] != "Completed" for job_id in harmless),
        restarts=fleet.restarts,
        tries=[line["where"] for line in lines if line["job_id"] in poison and line["what"] == "begun"],
        end=ends[poison[0]] if poison else None,
    )


def _open_jobs(plane: ControlPlaneProcess) -> int:
    return sum(status not in ENDS for status, _ in _ends(plane).values())


def _ends(plane: ControlPlaneProcess) -> dict[str, tuple[str, str | None]]:
    """The status of each job, and the reason that was told with it, as the record has them."""
    newest = "SELECT job_id, name, detail, max(number) FROM job_events GROUP BY job_id"
    with closing(sqlite3.connect(plane.data / "control-plane.db", timeout=30)) as db:
        return {
            job_id: (name, json.loads(detail or "null") and json.loads(detail).get("reason"))
            for job_id, name, detail, _ in db.execute(newest)
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=180)
    parser.add_argument("--work-s", type=float, default=2.0)
    parser.add_argument("--lease-s", type=float, default=60.0)
    load = Load(**vars(parser.parse_args()))
    ran: dict[bool, list[Ran]] = {False: [], True: []}
    for is_poisoned in (False, True, True, False):
        with tempfile.TemporaryDirectory() as folder:
            ran[is_poisoned].append(run(Path(folder), load, is_poisoned=is_poisoned))
    without, poisoned = ran[False], ran[True]
    share = sum(one.took_s for one in without) / sum(one.took_s for one in poisoned)
    print(f"{load}: {_told(without, load)} without and {_told(poisoned, load)} with the poison: {share:.1%}")
    for one in poisoned:
        print(f"it ended {one.end} after tries on {one.tries}; {one.restarts} restarts")
    faults = {
        "it cost too much": share <= LEAST_SHARE,
        "harmless jobs did not complete": any(one.incomplete for one in (*without, *poisoned)),
        "it did not end as it should": {one.end for one in poisoned} != {("Failed", "attempts_exhausted")},
        "it was tried too often": any(len(one.tries) > MOST_TRIES for one in poisoned),
    }
    for fault in (fault for fault, is_so in faults.items() if is_so):
        print(f"fault: {fault}")
    return 1 if any(faults.values()) else 0


def _told(runs: Sequence[Ran], load: Load) -> str:
    rates = " and ".join(f"{load.jobs / one.took_s:.2f}" for one in runs)
    return f"{rates} jobs/s"


if __name__ == "__main__":
    sys.exit(main())
