"""
The clock on the wall is moved while a job runs: nothing but the log takes notice. Needs libfaketime; `make chaos`
alone.

The agent alone is told another time; leases are the control plane's, and are measured there and here on clocks that
nobody moves.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_points import AGENT, PYTHON_PATH
from host import Host, Submitter, wait_until
from plane_files import make_job

from server import start_control_plane

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
LEASE_S = 4.0
MOVES = {
    "an hour ahead": "+3600",
    "an hour back": "-3600",
    "ten years ahead": "+3650d",
    "1970": "@1970-01-02 00:00:00",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("move", MOVES)
def test_a_clock_that_is_moved_ends_no_lease_and_no_job(tmp_path: Path, move: str) -> None:
    """A job of three leases, and two moves: there, and back again."""
    assert LIBRARY.exists(), f"{LIBRARY} is missing; on Debian: apt-get install libfaketime"
    told = tmp_path / "time"
    told.write_text("+0")
    faked = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(told), "FAKETIME_NO_CACHE": "1"}
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(PYTHON_PATH)}
    with start_control_plane(tmp_path, lease_s=LEASE_S) as plane:
        submitter = Submitter(plane.url, plane.submit_token)
        host = Host(tmp_path / "host", plane.url, plane.agent_token, "http://127.0.0.1:9", more=AGENT)
        parameters = {"ledger": str(tmp_path / "ledger"), "work_s": 3 * LEASE_S}
        job_id = make_job(plane.url, plane.submit_token, b"", "input.txt", parameters, job_type="ledger")

        agent = host.start(**faked)
        agent.wait_for("job.started")
        told.write_text(MOVES[move])
        stepped = agent.wait_for("clock.stepped")
        told.write_text("+0")
        wait_until(lambda: submitter.history(job_id)[-1] in ("Completed", "Failed"))
        history = submitter.history(job_id)
        host.stop_all()
        submitter.close()

    assert ["Pending", "Claimed", "Validating", "Running", "Uploading", "Completed"] == history
    assert abs(stepped["moved_s"]) > 3000
