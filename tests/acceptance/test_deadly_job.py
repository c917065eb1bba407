"""A job that kills whichever agent runs it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from crash_points import PYTHON_PATH
from host import Host, Submitter, wait_until
from plane_files import make_job

from server import ControlPlaneProcess, start_control_plane

AGENT = 'job_types = ["ledger"]\njob_env = ["PYTHONPATH"]\nmin_free_bytes = 0\nnice = 0\n'
ENDS = ("Completed", "Failed", "Canceled")


class Fleet:
    """Two agents, started again when they are gone, at once or when the job that killed them is free again."""

    def __init__(self, folder: Path, plane: ControlPlaneProcess, *, at_once: bool) -> None:
        self._at_once = at_once
        parts = (plane.url, plane.agent_token, "http://127.0.0.1:9")
        self.hosts = [Host(folder / name, *parts, more=AGENT) for name in ("one", "other")]
        self._running = [(host, host.start(PYTHONPATH=str(PYTHON_PATH))) for host in self.hosts]

    def tend(self, status: str) -> None:
        """Start whoever is down, if it is time for it; *status* is the deadly job's."""
        if self._at_once or status == "Pending":
            self._running = [
                (host, agent if agent.process.poll() is None else host.start(PYTHONPATH=str(PYTHON_PATH)))
                for host, agent in self._running
            ]

    def stop(self) -> None:
        """Leave nothing behind."""
        for host in self.hosts:
            host.stop_all()


@pytest.mark.parametrize(("lease_s", "at_once"), [(60.0, True), (1.0, False)], ids=["at once", "after its lease"])
def test_a_job_that_kills_its_agents_is_tried_three_times(tmp_path: Path, lease_s: float, *, at_once: bool) -> None:
    """Whether its agent comes back within its lease or not; meanwhile the other jobs are done."""
    ledger = tmp_path / "ledger"
    with start_control_plane(tmp_path, lease_s=lease_s) as plane:
        submitter = Submitter(plane.url, plane.submit_token)

        def submit(**more: bool) -> str:
            parameters = {"ledger": str(ledger), **more}
            return make_job(plane.url, plane.submit_token, b"", "input.txt", parameters, job_type="ledger")

        deadly, harmless = submit(kills=True), submit()
        fleet = Fleet(tmp_path, plane, at_once=at_once)

        def both_have_ended() -> bool:
            status = submitter.history(deadly)[-1]
            fleet.tend(status)
            return status in ENDS and submitter.history(harmless)[-1] in ENDS

        try:
            wait_until(both_have_ended)
        finally:
            fleet.stop()
        last = submitter.job(deadly)["status_history"][-1]
        harmless_ended = submitter.history(harmless)[-1]
        submitter.close()

    runs = Counter(line["job_id"] for line in map(json.loads, ledger.read_text().splitlines()) if "pid" in line)
    assert ("Failed", {"reason": "attempts_exhausted"}, "Completed") == (
        last["name"],
        last["detail"],
        harmless_ended,
    )
    assert {deadly: 3, harmless: 1} == runs
