"""What jobs work on and what they make: models and artifacts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.record.tables import Artifact, Job, Model
from overmind_controlplane.shown.archives import archived
from overmind_controlplane.shown.files import show_files
from overmind_controlplane.shown.jobs import show_jobs

MAX_JOBS_OF_MODEL: Final = 100


def show_artifacts(session: Session, rows: Sequence[Artifact]) -> list[wire.Artifact]:
    """Artifacts with their files, in the same order."""
    shown = show_files(session, [row.file_id for row in rows])
    told = archived(session, rows)
    return [
        wire.Artifact(
            id=row.id,
            created=row.created,
            file=shown[row.file_id],
            comments=[],
            archive_status_history=told[row.id],
            created_by_id=row.created_by,
            model_id=row.model_id,
        )
        for row in rows
    ]


def show_models(session: Session, rows: Sequence[Model], *, with_jobs: bool = False) -> list[wire.Model]:
    """Models with their files and artifacts and, if asked, their newest jobs; in the same order."""
    shown = show_files(session, [row.file_id for row in rows])
    told = archived(session, rows)
    made: defaultdict[str, list[wire.Artifact]] = defaultdict(list)
    of_models = select(Artifact).where(Artifact.model_id.in_([row.id for row in rows])).order_by(Artifact.number)
    for artifact in show_artifacts(session, list(session.scalars(of_models))):
        made[artifact.model_id or ""].append(artifact)
    return [
        wire.Model(
            id=row.id,
            created=row.created,
            file=shown[row.file_id],
            comments=[],
            archive_status_history=told[row.id],
            created_by_id=row.created_by,
            artifacts=made[row.id],
            jobs=_jobs_of(session, row) if with_jobs else None,
        )
        for row in rows
    ]


def _jobs_of(session: Session, row: Model) -> list[wire.Job]:
    newest = select(Job).where(Job.model_id == row.id, Job.is_deleted.is_(False)).order_by(Job.number.desc())
    return show_jobs(session, list(session.scalars(newest.limit(MAX_JOBS_OF_MODEL)))[::-1])
