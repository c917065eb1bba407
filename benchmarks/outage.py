"""
What an agent does while its control plane is away, and when it comes back.

    .venv/bin/python benchmarks/outage.py [--minutes 2] [--jobs 20] [--size-bytes 200000]

One agent with a slot for each job. When all jobs are at work the control plane is killed; they end, and their
last words and files wait. For so many minutes from then on the processor time of the agent and of its nursery is
read from /proc, and at the end what jobs/ and the journal take of the disk, less what the journal took before the
first job. Then the control plane is started on the same port and data: told is how long it takes, from the moment
at which it listens, until the first last word is delivered, and all of them; and whether each output arrived, byte
for byte.

Files of up to 256 KiB go with the last word of their job, which is in the outbox; larger ones are stored before it,
so that such a job waits for its upload. Its lease runs out meanwhile; it is asked for when the server is back.

Ends with 1 when the agent took 2 % of a processor or more, when the first delivery came later than after 60 s, when
there was more on the disk than twice the output, or when an outcome or a byte is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

from host import Agent, Host, Submitter, wait_until  # noqa: E402
from plane_files import make_job  # noqa: E402

from server import ControlPlaneProcess, start_control_plane  # noqa: E402

WORK_S: Final = 20.0
MOST_CPU: Final = 0.02
MOST_FIRST_S: Final = 60.0
MOST_SPOOL: Final = 2.0
AGENT: Final = 'job_types = ["ledger"]\njob_env = ["PYTHONPATH"]\nmin_free_bytes = 0\nslots = {slots}\n'
OUTPUT: Final = "output.bin"
TICKS: Final = os.sysconf("SC_CLK_TCK")


def outage(folder: Path, plane: ControlPlaneProcess, *, jobs: int, size_bytes: int, away_s: float) -> list[str]:
    """One outage; prints what was measured and returns what was not as it should be."""
    ledger = folder / "ledger"
    parameters = {"ledger": str(ledger), "work_s": WORK_S, "size_bytes": size_bytes}
    host = Host(folder / "host", plane.url, plane.agent_token, "http://127.0.0.1:9", more=AGENT.format(slots=jobs))
    submitter = Submitter(plane.url, plane.submit_token)
    agent = host.start(PYTHONPATH=str(TESTS / "kit" / "python_path"))
    try:
        agent.wait_for("agent.started")
        journal_bytes = _journal_bytes(host)
        job_ids = [
            make_job(plane.url, plane.submit_token, b"", "input.txt", parameters, job_type="ledger")
            for _ in range(jobs)
        ]
        agent.wait_for("job.started", times=jobs)
        plane.kill()
        wait_until(lambda: len(_ended(ledger)) == jobs, timeout_s=WORK_S + 60)
        cpu = _cpu_share(agent.process.pid, away_s)
        waiting = sum(line["event"] == "job.completed" for line in tuple(agent.lines))
        spool = (_size_of(host.state / "jobs") + _journal_bytes(host) - journal_bytes) / (jobs * size_bytes)
        plane.start(int(plane.url.rpartition(":")[2]))
        first_s, all_s = _delivered(agent, jobs)
        digests = {line["job_id"]: line["sha256"] for line in _ended(ledger)}
        arrived = sum(_arrived(submitter, job_id) == digests[job_id] for job_id in job_ids)
    finally:
        host.stop_all()
        submitter.close()
    print(
        f"away for {away_s:.0f} s with {waiting} of {jobs} last words in the outbox, {size_bytes:,} bytes each: "
        f"{cpu:.2%} of a processor, {spool:.2f} times the output on disk; first delivered {first_s:.1f} s after it "
        f"was back, all after {all_s:.1f} s, {arrived} of {jobs} arrived byte for byte"
    )
    faults = {
        f"{cpu:.2%} of a processor": cpu >= MOST_CPU,
        f"first delivered after {first_s:.1f} s": first_s > MOST_FIRST_S,
        f"{spool:.2f} times the output on disk": spool > MOST_SPOOL,
        f"{jobs - arrived} jobs are not whole": arrived < jobs,
    }
    return [fault for fault, is_so in faults.items() if is_so]


def _ended(ledger: Path) -> list[dict[str, str]]:
    with suppress(FileNotFoundError):
        lines = map(json.loads, ledger.read_text().splitlines())
        return [line for line in lines if line["what"] == "ended"]
    return []


def _delivered(agent: Agent, jobs: int) -> tuple[float, float]:
    """Seconds from now until the first and the last COMPLETED is delivered."""
    began_s = time.monotonic()
    agent.wait_for("outbox.delivered", status="Completed")
    first_s = time.monotonic() - began_s
    wait_until(lambda: _completed(agent) == jobs, timeout_s=600)
    return first_s, time.monotonic() - began_s


def _completed(agent: Agent) -> int:
    delivered = {"event": "outbox.delivered", "status": "Completed"}.items()
    return sum(delivered <= line.items() for line in tuple(agent.lines))


def _arrived(submitter: Submitter, job_id: str) -> str:
    return hashlib.sha256(submitter.files(job_id)[OUTPUT]).hexdigest()


def _cpu_share(pid: int, for_s: float) -> float:
    """What the process and its children that are alive take of one processor, in the next *for_s* seconds."""
    began_s, before = time.monotonic(), _cpu_s(pid)
    threading.Event().wait(for_s)
    return (_cpu_s(pid) - before) / (time.monotonic() - began_s)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    own = sum(int(fields[place]) for place in (11, 12)) / TICKS
    children = [listed.read_text().split() for listed in Path(f"/proc/{pid}/task").glob("*/children")]
    return own + sum(_cpu_s(int(child)) for listed in children for child in listed)


def _journal_bytes(host: Host) -> int:
    return sum(path.stat().st_blocks * 512 for path in host.state.glob("journal.sqlite*"))


def _size_of(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--size-bytes", type=int, default=200_000)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, start_control_plane(Path(name)) as plane:
        faults = outage(Path(name), plane, jobs=told.jobs, size_bytes=told.size_bytes, away_s=60 * told.minutes)
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
