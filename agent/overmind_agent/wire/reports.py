"""Several statuses in one exchange; all of it ours."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, field_validator

from overmind_agent.wire.basis import Asked, Id, Wire
from overmind_agent.wire.files import MOST_ENCLOSED, KeyedArtifact
from overmind_agent.wire.statuses import StatusBody

MOST_REPORTS: Final = 16
"""How many status updates may be sent together."""


class Report(StatusBody):
    """Ours: one of the status updates that an agent sends together."""

    job_id: Id
    status_name: str
    attempt: Annotated[int, Field(ge=1)]
    sequence: Annotated[int, Field(ge=1)]
    artifacts: Annotated[list[KeyedArtifact], Field(max_length=MOST_ENCLOSED)] | None = None

    @field_validator("artifacts")
    @classmethod
    def _each_once(cls, artifacts: list[KeyedArtifact] | None) -> list[KeyedArtifact] | None:
        if len({artifact.key for artifact in artifacts or ()}) < len(artifacts or ()):
            raise ValueError("two artifacts have one key; give each its own")
        return artifacts


class Reports(Asked):
    """Ours: the body of `POST /agents/{id}/reports`."""

    reports: Annotated[list[Report], Field(min_length=1, max_length=MOST_REPORTS)]


class AnyReports(Asked):
    """`Reports` as the server reads it: each report by itself, so that one that is wrong refuses no other."""

    reports: Annotated[list[Any], Field(min_length=1, max_length=MOST_REPORTS)]


class Heard(Wire):
    """Ours: what became of one report: the status and the body that it alone would have been answered with."""

    http_status: int
    error: dict[str, Any] | None = None


class ReportsAnswer(Wire):
    """Ours: one for each report, in their order."""

    reports: list[Heard]
