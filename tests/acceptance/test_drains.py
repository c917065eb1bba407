"""
A daemon with work waiting is told to stop, again and again: nothing is claimed after that. `make chaos` alone.

That no claim is begun once the drain has is shown over five hundred orders of events in tests/stateful; here it is
how long a signal takes to become a drain, in real processes.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from crash_points import AGENT, PYTHON_PATH
from host import Host
from plane_files import make_jobs

from server import ControlPlaneProcess

DRAINS = 20
JOBS = 12  # at a time: more than are done before the signal
# The aim is 0.1 s, on a machine that has nothing else to do.
MOST_S = 3.0


@pytest.mark.timeout(1200)
def test_after_a_signal_nothing_is_claimed(tmp_path: Path, plane: ControlPlaneProcess, seed: int) -> None:
    draw = random.Random(f"drains/{seed}")
    late_s = []
    for number in range(DRAINS):
        tokens = plane.new_project()
        parameters = {"ledger": str(tmp_path / "ledger"), "work_s": 0.05}
        job_ids = make_jobs(plane.url, tokens.submit, b"", "input.txt", parameters, job_type="ledger", number=JOBS)
        host = Host(
            tmp_path / str(number), plane.url, tokens.agent, "http://127.0.0.1:9", more=f"{AGENT}\nslots = 2"
        )
        agent = host.start(PYTHONPATH=str(PYTHON_PATH))
        agent.wait_for("job.completed", times=draw.randint(1, 3))
        told_at = time.time()
        agent.signal(signal.SIGTERM)
        assert 0 == agent.exit_code(), agent.raw[-10:]
        claimed_at = _claims(plane, job_ids)
        assert len(claimed_at) < JOBS, "all jobs were claimed before the signal: it tried nothing"
        late_s.append(max(claimed_at) - told_at)

    print(f"{DRAINS} drains: the last claim was {max(late_s):.3f} s after the signal")  # noqa: T201
    assert max(late_s) < MOST_S


def _claims(plane: ControlPlaneProcess, job_ids: list[str]) -> list[float]:
    """When each of these jobs was claimed, as the control plane's record has it; seconds since 1970."""
    marks = ",".join("?" * len(job_ids))
    with closing(sqlite3.connect(plane.data / "control-plane.db", timeout=30)) as db:
        query = f"SELECT created FROM job_events WHERE name = 'Claimed' AND job_id IN ({marks})"  # noqa: S608
        return [datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() for (at,) in db.execute(query, job_ids)]
