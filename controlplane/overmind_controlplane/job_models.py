"""Which chat models a job names: it is offered to agents that have all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from overmind_controlplane.blobs import Blobs
from overmind_controlplane.files import NewRevision
from overmind_controlplane.matching import job_type
from overmind_executors import strict_json

READ_BYTES: Final = 1 << 20
"""Longer parameters are not read here; such a job is offered as if it named no model."""

# Where parameters name a model, or a list of them. A job type that has none of these keys is not bound to any.
_PLACES: Final = (("target", "model"), ("judge", "models"), ("analyzer_model",), ("current_model",), ("models",))
# As the setting `models.<name>` has it; another word is no model of any host, and its job fails with that message.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def named(function_name: str, parameters: Any) -> frozenset[str]:
    """The models that *parameters*, as they were sent, name; none for a function of a host."""
    if job_type(function_name) is None:
        return frozenset()
    return frozenset(name for place in _PLACES for name in _at(parameters, place) if _NAME.fullmatch(name))


def named_in(blobs: Blobs, project_id: str, function_name: str, revision: NewRevision) -> frozenset[str]:
    """As `named`, of a parameters file."""
    if job_type(function_name) is None or revision.size > READ_BYTES:
        return frozenset()
    raw = blobs.read(project_id, revision.content_sha, limit=READ_BYTES)
    try:
        return named(function_name, strict_json.loads(raw or b"{}"))
    except strict_json.NotJson:  # whoever runs it says so
        return frozenset()


def _at(parameters: Any, place: tuple[str, ...]) -> Iterator[str]:
    found = parameters
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    for name in found if isinstance(found, list) else [found]:
        if isinstance(name, str):
            yield name.partition(":reasoning-")[0]  # a model asked with some effort is that model
