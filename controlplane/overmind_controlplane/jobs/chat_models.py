"""Which chat models a job names: it is offered to agents that have all of them."""

from __future__ import annotations

from typing import Any, Final

from overmind_controlplane.jobs.matching import job_type
from overmind_controlplane.named_models import named_by
from overmind_controlplane.storage.blobs import Blobs
from overmind_controlplane.storage.files import NewRevision
from overmind_executors import strict_json

READ_BYTES: Final = 1 << 20
"""Longer parameters are not read here; such a job is offered as if it named no model."""


def named(function_name: str, parameters: Any) -> frozenset[str]:
    """The models that *parameters*, as they were sent, name; none for a function of a host."""
    if job_type(function_name) is None:
        return frozenset()
    return named_by(parameters)


def named_in(blobs: Blobs, project_id: str, function_name: str, revision: NewRevision) -> frozenset[str]:
    """As `named`, of a parameters file."""
    if job_type(function_name) is None or revision.size > READ_BYTES:
        return frozenset()
    raw = blobs.read(project_id, revision.content_sha, limit=READ_BYTES)
    try:
        return named(function_name, strict_json.loads(raw or b"{}"))
    except strict_json.NotJson:  # whoever runs it says so
        return frozenset()
