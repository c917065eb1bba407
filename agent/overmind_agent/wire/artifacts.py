"""Models and artifacts on the wire: what jobs read, and what they make."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from overmind_agent.wire.basis import Id, Wire
from overmind_agent.wire.files import ArchiveEntry, File
from overmind_agent.wire.jobs import Job


class MadeArtifacts(Wire):
    """Ours: the ids of several artifacts, in the order in which they were told."""

    ids: list[Id]


class Model(Wire):
    """Seed 003's model: an input file, its artifacts, and the jobs on it."""

    id: Id
    created: datetime
    file: File
    comments: list[Any]
    archive_status_history: list[ArchiveEntry]
    created_by_id: str
    artifacts: list[Artifact]
    jobs: list[Job] | None = None


class ModelFile(Wire):
    """A model, only what the daemon reads of it: the rest may be long."""

    file: File


class Artifact(Wire):
    """A file made by a job; its sources name the job's revision."""

    id: Id
    created: datetime
    file: File
    comments: list[Any]
    archive_status_history: list[ArchiveEntry]
    created_by_id: str
    model_id: str | None = None


class Made(Wire):
    """Ours: the answer to a new artifact that asked for `return=minimal`."""

    id: Id
