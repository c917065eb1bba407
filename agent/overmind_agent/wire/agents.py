"""Agents on the wire: what one says of itself, and which extensions a server has."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import Field

from overmind_agent.wire.basis import Asked, Id, Label, Name, Wire


class NewAgent(Asked):
    """The body of a registration. `capabilities` and `instance`, which names one start of the agent, are ours."""

    agent_version: Label
    host_os: Label
    capabilities: list[Label] = Field(default=[], max_length=64)
    instance: Id | None = None


class Registration(NewAgent):
    """The body that makes an agent known. `agent_id` is ours: the id that it had, and wants to have again."""

    agent_id: Id | None = None


class ModuleVersion(Asked):
    """A module that an agent has. Jobs whose function belongs to it are offered to that agent."""

    module_name: Name
    module_version: Label


class NextClaim(Asked):
    """
    Ours: the body of `POST /agents/{id}/claims`. Without `job_types` all that the agent runs are asked for;
    `message` stands in the history beside the claim.
    """

    wait_s: float = Field(default=0.0, ge=0, le=30)
    job_types: list[Name] | None = Field(default=None, max_length=100)
    instance: Id | None = None
    message: Label | None = None


class AgentStatusName(Asked):
    """The body of `PUT /agents/{id}/status`."""

    name: str


class DisplayName(Asked):
    """The body of `PUT /agents/{id}/display_name`."""

    display_name: Name


class Agent(Wire):
    """An agent; only what this project's own daemon reads of the answer."""

    id: Id
    created: datetime


class Capabilities(Wire):
    """Ours: the answer of `GET /api/v2/capabilities`."""

    protocol: str
    extensions: list[str]


EXTENSIONS: Final = (
    "next_job",
    "claims",
    "lease",
    "fence",
    "heartbeat",
    "logs",
    "release",
    "declared_files",
    "inline_files",
    "enclosed_files",
    "log_counts",
    "agent_id",
    "instance",
    "reports",
    "iterations",
    "not_accepting",
    "ends",
    "as_model",
    "signatures",
    "several_files",
    "pace",
)
