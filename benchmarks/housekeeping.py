"""
What an agent's own order costs: folders, journal, long logs.

    .venv/bin/python benchmarks/housekeeping.py [--log-mb 1000]

Folders: a sweep of 1,000 folders of jobs, each with the eight files that an inference job leaves; processor
time of this process, and by the clock. Journal: opened and read as a start does it, with 1,000 jobs that are
held. Log: a process of its own prints one GB as fast as the disk takes it, while another one, with all of the
daemon's modules, watches the file as the launcher does and sends it to a control plane in memory that keeps
nothing; what is told is how much that one's memory (VmHWM) rose, and the longest time for which a line of the
job waited to be written. Each has its limit, and the exit code is 1 when one is not kept to.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import overmind_agent.service  # noqa: F401 - what the daemon has in its memory
from agent_parts import a_claim
from overmind_agent.files.workspace import DiskWorkspaces
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lifecycle import Status
from overmind_agent.logs import job_log
from overmind_agent.logs.job_log import JobLog
from overmind_agent.logs.shipper import LogShipper
from overmind_config.redaction import Redactor

MB: Final = 1_000_000
NUMBER: Final = 1000
FILES: Final = ("basis.json", "in/input", "out/a", "out/b", "out/c", "state/calls", "log.txt", "result.json")
# Printing: each line is timed, from the call to its return.
PRINTER: Final = """
import sys, time
line, longest_s, size = b"2026-01-01T00:00:00Z info row.scored " + b"x" * 90 + b"\\n", 0.0, int(sys.argv[1])
out = open(sys.argv[2], "ab", buffering=0)
for _ in range(size // (64 * len(line))):
    began_s = time.monotonic()
    out.write(line * 64)
    longest_s = max(longest_s, time.monotonic() - began_s)
print(longest_s)
"""


class Sink:
    """A control plane's log that keeps nothing."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def append_log(self, _claim: object, *, offset: int, data: bytes) -> int:
        """See ControlPlane."""
        assert offset == self.size_bytes
        self.size_bytes += len(data)
        return self.size_bytes


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    began_s, busy_s = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - began_s, time.process_time() - busy_s


def sweeping(folder: Path) -> tuple[float, float]:
    workspaces = DiskWorkspaces(folder / "jobs")
    for _ in range(NUMBER):
        place = folder / "jobs" / str(uuid.uuid4())
        for name in FILES:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"x" * 2000)
    return timed(lambda: workspaces.sweep(lambda _: False))


def replaying(folder: Path) -> tuple[float, float]:
    journal = SqliteJournal(folder / "journal.sqlite", sync=lambda _: None)
    for number in range(NUMBER):
        claim = a_claim(f"5d1b1f3a-0000-4000-8000-{number:012}")
        journal.intend(claim.job, f"key-{number}")
        journal.hold(claim)
        journal.post(claim, Status.VALIDATING)
    journal.close()

    def start() -> None:
        opened = SqliteJournal(folder / "journal.sqlite")
        assert NUMBER == len(opened.held()) == len(opened.undelivered())
        opened.close()

    return timed(start)


def _watch(path: Path, size_bytes: int) -> tuple[int, int, float, int]:
    """In a process of its own: memory before and at the peak; the job's longest wait; bytes that were sent."""
    claim, sink = a_claim(), Sink()
    path.touch()
    before = _peak_bytes()
    printer = subprocess.Popen(
        [sys.executable, "-c", PRINTER, str(size_bytes), str(path)], stdout=subprocess.PIPE, text=True
    )
    shipper = LogShipper(claim, JobLog(path, Redactor(["ovr_" + "x" * 40])))
    while not shipper.is_ended:
        shipper.is_ended = printer.poll() is not None
        job_log.trim(path)
        while shipper.ship(sink):  # type: ignore[arg-type]
            pass
        time.sleep(0.1)
    told, _ = printer.communicate()
    return before, _peak_bytes(), float(told), sink.size_bytes


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log-mb", type=int, default=1000)
    told = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        multiprocessing.get_context("spawn").Pool(1) as alone,
    ):
        folder = Path(name)
        swept_s, swept_busy_s = sweeping(folder)
        read_s, read_busy_s = replaying(folder)
        before, peak, waited_s, sent = alone.apply(_watch, (folder / "log.txt", told.log_mb * MB))
        kept = (folder / "log.txt").stat().st_blocks * 512
    rows = [
        ("a sweep of 1,000 folders", f"{swept_s:.2f} s, {swept_busy_s:.2f} s of a processor", swept_busy_s <= 1.0),
        ("a journal with 1,000 held jobs, at a start", f"{read_s:.2f} s, {read_busy_s:.2f} s", read_busy_s <= 1.0),
        (f"memory over a log of {told.log_mb:,} MB", f"+ {(peak - before) / MB:.1f} MB", peak - before <= 32 << 20),
        ("the job's longest wait for its log", f"{waited_s * 1000:.0f} ms", True),
        ("of that log kept on the disk, and sent", f"{kept / MB:.0f} MB, {sent / MB:.0f} MB", kept <= 80 << 20),
    ]
    for what, shown, is_kept_to in rows:
        print(f"| {what} | {shown} |{'' if is_kept_to else ' too much'}")
    return 0 if all(is_kept_to for *_, is_kept_to in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
