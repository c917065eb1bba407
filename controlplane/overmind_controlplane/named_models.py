"""Which models a job's parameters name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

# Where parameters name a model, or a list of them. A job type that has none of these keys is not bound to any.
_PLACES: Final = (
    ("target", "model"),
    ("judge", "models"),
    ("evaluators", "model"),
    ("analyzer_model",),
    ("current_model",),
    ("models",),
)
# As the setting `models.<name>` has it; another word is no model of any host, and its job fails with that message.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def named_by(parameters: Any) -> frozenset[str]:
    """The models that *parameters* of one of the five job types, as they were sent, name."""
    return frozenset(name for place in _PLACES for name in _at(parameters, place) if _NAME.fullmatch(name))


def _at(parameters: Any, place: tuple[str, ...]) -> Iterator[str]:
    found = [parameters]
    for key in place:
        inner = [one.get(key) for one in found if isinstance(one, Mapping)]
        found = [part for one in inner for part in (one if isinstance(one, list) else [one])]
    for name in found:
        if isinstance(name, str):
            yield name.partition(":reasoning-")[0]  # a model asked with some effort is that model
