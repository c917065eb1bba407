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
    """
    Two agents, started again when they are gone: at once, when the job that killed them is free again, or by turns.
    """

    def __init__(self, folder: Path, plane: ControlPlaneProcess, back: str) -> None:
        self._back = back
        parts = (plane.url, plane.agent_token, "http://127.0.0.1:9")
        self.hosts = [Host(folder / name, *parts, more=AGENT) for name in ("one", "other")]
        self._ends: Counter[Host] = Counter()
        self._running = [(host, host.start(PYTHONPATH=str(PYTHON_PATH))) for host in self.hosts]

    def tend(self, status: str) -> None:
        """Start whoever is down, if it is time for it; *status* is the deadly job's."""
        for place, (host, agent) in enumerate(self._running):
            if agent.process.poll() is not None and (status == "Pending" or self._comes_back(host)):
                self._ends[host] += 1
                self._running[place] = host, host.start(PYTHONPATH=str(PYTHON_PATH))

    def _comes_back(self, host: Host) -> bool:
        """Whether *host* is started before the lease of what killed it ends."""
        return self._back == "at once" or (self._back == "once at once" and not self._ends[host])

    def stop(self) -> None:
        """Leave nothing behind."""
        for host in self.hosts:
            host.stop_all()


@pytest.mark.parametrize(
    ("lease_s", "back"),
    [(60.0, "at once"), (1.0, "after its lease"), (4.0, "once at once")],
    ids=lambda value: str(value),
)
def test_a_job_that_kills_its_agents_is_tried_three_times(tmp_path: Path, lease_s: float, back: str) -> None:
    """Whether its agents come back within its lease, or not, or now and then; meanwhile the other jobs are done."""
    ledger = tmp_path / "ledger"
    with start_control_plane(tmp_path, lease_s=lease_s) as plane:
        submitter = Submitter(plane.url, plane.submit_token)

        def submit(**more: bool) -> str:
            parameters = {"ledger": str(ledger), **more}
            return make_job(plane.url, plane.submit_token, b"", "input.txt", parameters, job_type="ledger")

        deadly, harmless = submit(kills=True), submit()
        fleet = Fleet(tmp_path, plane, back)

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
