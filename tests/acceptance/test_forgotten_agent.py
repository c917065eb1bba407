"""A control plane that was put back to a backup from before the agent registered."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from host import Host, Submitter, inference, reviews

from server import ControlPlaneProcess
from zoo import Zoo


def forget_agents(plane: ControlPlaneProcess) -> list[str]:
    """Take them out of its database; returns their ids."""
    with closing(sqlite3.connect(plane.data / "control-plane.db", timeout=30)) as database, database:
        ids = [agent_id for (agent_id,) in database.execute("SELECT id FROM agents")]
        database.execute("DELETE FROM agent_events")
        database.execute("DELETE FROM agents")
    return ids


def test_an_agent_that_was_forgotten_ends_its_job_under_its_id(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo
) -> None:
    zoo.close_gate(after=2)
    job_id = submitter.submit(inference(reviews(8)))
    agent = host.start("--once", OVERMIND_AGENT_CONTROL_PLANE__HEARTBEAT_S="0.5")
    zoo.wait_for_calls(3)

    forgotten = forget_agents(plane)
    agent.wait_for("agent.forgotten")
    agent.wait_for("agent.registered_again")
    zoo.open_gate()

    assert 0 == agent.exit_code(), agent.raw
    assert ("completed", 1) == (agent.summary["outcome"], agent.summary["attempt"])
    assert "completed" == submitter.record(job_id)["status"]
    agents = [
        line["agent_id"] for line in agent.lines if line["event"] in ("agent.started", "agent.registered_again")
    ]
    assert forgotten * 2 == agents
