"""Agents that a server has forgotten, as after an older backup was put back: who gets which id."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from plane_calls import Project


def register_as(project: Project, agent_id: str) -> Any:
    """The id of an agent that says that it was *agent_id*."""
    body = {"agent_version": "1.0", "host_os": "Debian", "capabilities": ["lease"], "agent_id": agent_id}
    return project.agent.read("POST", "/api/v2/agents", body)["id"]


def test_an_agent_gets_back_the_id_that_it_had(project: Project) -> None:
    agent_id = str(uuid.uuid4())

    assert [agent_id, agent_id] == [register_as(project, agent_id) for _ in range(2)]


@pytest.mark.parametrize("agent_id", ["old", "A" * 36, "x" * 100])
def test_an_id_that_is_none_of_this_servers_is_not_taken_over(project: Project, agent_id: str) -> None:
    assert agent_id != register_as(project, agent_id)


def test_the_id_of_another_projects_agent_is_not_given_away(project: Project, stranger: Project) -> None:
    """With it, its jobs would be."""
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    project.agent.say(job_id, "Claimed", agent_id, key="a")

    found = register_as(stranger, agent_id)

    assert agent_id != found
    assert ["superseded"] == [line["directive"] for line in stranger.agent.heartbeat(found, (job_id, 1))["jobs"]]
