"""What callers say to the board: a job that they want made, and how a job should be from now on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.record import idempotency
from overmind_controlplane.refusals import wrong
from overmind_controlplane.storage.files import NewArtifact, NewRevision


@dataclass(frozen=True)
class NewJob:
    """
    What is asked for when a job is made.

    Attributes:
        revision: of the parameters file.
        model_id: the input; None for a job without one, which gets a model that holds its parameters.
        priority: higher is offered first.
        labels, models: an agent needs all of them.
        signature: of its submitter, None for a job without.
        fields: further columns of the record, by name, such as `prompt_slug`.
    """

    function_name: str
    revision: NewRevision
    model_id: str | None
    function_version: str | None = None
    assigned_agent_id: str | None = None
    timeout_s: float | None = None
    max_attempts: int = 3
    priority: int = 0
    labels: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    signature: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Word:
    """
    What a caller says about a job: the status it should have, and what goes with it.

    Attributes:
        agent_id: who says so; None for a person, and for a client that leaves it out.
        attempt, sequence: the fence and the order, None from a client that does not know them.
        key: makes a claim safe to repeat.
        detail: `reason`, `files`, `outcome`, as in `docs/protocol.md`.
        artifacts: the job's, that came with it and are added with it.
    """

    status: Status
    agent_id: str | None = None
    attempt: int | None = None
    sequence: int | None = None
    key: str | None = None
    message: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    artifacts: tuple[NewArtifact, ...] = ()

    @property
    def digest(self) -> str:
        """The same for the same words; the sequence, the fence and files are not part of them."""
        return idempotency.digest(self.status.value, self.agent_id, self.message, dict(self.detail))


def status_named(name: str, *loc: str | int) -> Status:
    """
    The status that is called *name* at *loc* of a call.

    Raises:
        Invalid: there is none of that name. `Unknown` is one, which nothing may become.
    """
    status = Status.read(name)
    if status.value != name:
        raise wrong(f"a status is one of {', '.join(LIFECYCLE)} (got {name[:40]!r})", *loc, kind="enum")
    return status
