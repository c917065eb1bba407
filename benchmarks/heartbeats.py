"""
Whether heartbeats come in time from a host that has too much to do.

    .venv/bin/python benchmarks/heartbeats.py --minutes 10 [--slots 5]

One agent, one control plane, a proxy between them that notes when each heartbeat comes. Four jobs compute
without a pause (`nice` 5, as by default) and print 50 MB each into their logs, which are masked and sent
meanwhile; a fifth job's result file stands still on its way for 60 s. The interval is 2.5 s, the lease 10 s.
Counted from the moment at which the first job runs to the moment at which the last one has ended: no gap
between two heartbeats may be longer than one and a half intervals. Ends with 1 when one is.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

from host import Host, Submitter, wait_until  # noqa: E402
from plane_files import make_jobs  # noqa: E402

from overmind_agent.testing.fault_proxy import FaultProxy  # noqa: E402
from overmind_agent.testing.faults import Request  # noqa: E402
from server import ControlPlaneProcess, start_control_plane  # noqa: E402

INTERVAL_S: Final = 2.5
LEASE_S: Final = 10.0
STALL_S: Final = 60.0
LOG_BYTES: Final = 200_000_000
MOST_GAP: Final = 1.5
PLANE: Final = f"heartbeat_s = {INTERVAL_S}\n"
AGENT: Final = """
job_types = ["ledger"]
job_env = ["PYTHONPATH"]
min_free_bytes = 0
slots = {slots}
"""
ENDS: Final = ("Completed", "Failed", "Canceled")


class Watch:
    """A plan of the proxy: notes heartbeats, and lets the first result file stand still."""

    def __init__(self) -> None:
        self.beats_s: list[float] = []
        self.stalled = False

    def __call__(self, request: Request) -> str | None:
        """The fault that *request* meets."""
        path = request.path.partition("?")[0]
        if path.endswith("/heartbeat"):
            self.beats_s.append(time.monotonic())
        if path.endswith("/artifacts") and not self.stalled:
            self.stalled = True
            return "delayed"
        return None


def toil(folder: Path, plane: ControlPlaneProcess, minutes: float, slots: int) -> tuple[list[float], list[str]]:
    """The gaps between heartbeats while the jobs worked, in seconds; and how the jobs ended."""
    watch = Watch()
    with FaultProxy(plane.url, watch, slow_s=STALL_S) as proxy:
        host = Host(
            folder / "host", proxy.url, plane.agent_token, "http://127.0.0.1:9", more=AGENT.format(slots=slots)
        )
        host.config.write_text(host.config.read_text().replace("[agent]", PLANE + "\n[agent]", 1))
        submitter = Submitter(plane.url, plane.submit_token)

        def submit(number: int, **more: float) -> list[str]:
            told = {"ledger": str(folder / "ledger"), **more}
            return make_jobs(
                plane.url, plane.submit_token, b"", "input.txt", told, job_type="ledger", number=number
            )

        ids = submit(1) + submit(slots - 1, work_s=60 * minutes, log_bytes=LOG_BYTES // (slots - 1))
        agent = host.start("--log-level", "info", PYTHONPATH=str(TESTS / "kit" / "python_path"))
        try:
            agent.wait_for("job.started")
            began_s = time.monotonic()
            wait_until(
                lambda: all(submitter.history(job_id)[-1] in ENDS for job_id in ids), timeout_s=60 * minutes + 300
            )
            ended_s = time.monotonic()
        finally:
            host.stop_all()
        ends = [submitter.history(job_id)[-1] for job_id in ids]
        submitter.close()
    at_s = [began_s, *(at_s for at_s in watch.beats_s if began_s <= at_s <= ended_s)]
    return [after - before for before, after in pairwise(at_s)], ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--slots", type=int, default=5, help="one for the job whose file stands still")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, start_control_plane(Path(name), lease_s=LEASE_S) as plane:
        gaps_s, ends = toil(Path(name), plane, told.minutes, told.slots)
    p99_s = statistics.quantiles(gaps_s, n=100)[98]
    print(
        f"{len(gaps_s)} heartbeats, one every {INTERVAL_S} s: gaps of {statistics.median(gaps_s):.2f} s (median), "
        f"{p99_s:.2f} s at p99, {max(gaps_s):.2f} s at most (limit {MOST_GAP * INTERVAL_S:.2f} s); jobs {ends}"
    )
    return 0 if max(gaps_s) <= MOST_GAP * INTERVAL_S and set(ends) == {"Completed"} else 1


if __name__ == "__main__":
    sys.exit(main())
