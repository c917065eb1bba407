"""Two agents on one project: every job runs once, and nobody waits for long."""

from __future__ import annotations

from pathlib import Path

import pytest
from host import Agent, Host, Submitter, inference, wait_until

from server import ControlPlaneProcess
from zoo import Zoo

JOBS = 100
LIMIT_S = 240.0


@pytest.mark.timeout(LIMIT_S + 60)
def test_two_agents_with_four_slots_each_share_100_jobs(
    tmp_path: Path, plane: ControlPlaneProcess, submitter: Submitter, zoo: Zoo
) -> None:
    """No job is run by both: each has one claim, and each row was asked about once."""
    hosts = [Host(tmp_path / name, plane.url, plane.agent_token, zoo.url) for name in ("one", "two")]
    wanted = [f"a great row of job {number}" for number in range(JOBS)]
    rows = [{"id": "only", "input": text, "expected_output": "positive"} for text in wanted]
    job_ids = [submitter.submit(inference([row])) for row in rows]

    agents = [host.start("--slots", "4") for host in hosts]
    try:
        wait_until(lambda: sum(map(_completed, agents)) == JOBS, timeout_s=LIMIT_S)
        workers = [{line["job_id"] for line in agent.lines if line["event"] == "job.claimed"} for agent in agents]
    finally:
        for host in hosts:
            host.stop_all()

    assert set(job_ids) == workers[0] | workers[1]
    assert set() == workers[0] & workers[1]
    assert all(workers)
    assert dict.fromkeys(wanted, 1) == dict(zoo.calls)
    assert all(submitter.history(job_id).count("Claimed") == 1 for job_id in job_ids)


def _completed(agent: Agent) -> int:
    """Asked of the agent's log: a list of the server's jobs, again and again, would take its time from the jobs."""
    delivered = {"event": "outbox.delivered", "status": "Completed"}.items()
    return sum(delivered <= line.items() for line in tuple(agent.lines))
