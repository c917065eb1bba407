"""Every key by its dotted name, such as `agent.slots` or `models.<name>.base_url`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from overmind_config.settings import Model, Settings

ANY_NAME: Final = "<name>"
COMPUTED: Final = frozenset({f"models.{ANY_NAME}.api_key"})  # never written by anyone, filled by `load`

KeyPath = tuple[str, ...]


@cache
def known_keys() -> dict[str, FieldInfo]:
    """The field behind each key, in the order of the reference file; `<name>` stands for a model's name."""
    return {key: field for key, field in _walk(Settings, ()) if key not in COMPUTED}


def _walk(section: type[BaseModel], path: KeyPath) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        here = (*path, name)
        if here == ("models",):
            yield from _walk(Model, (*here, ANY_NAME))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, here)
        else:
            yield ".".join(here), field


def general(path: KeyPath) -> str:
    """The known key's form of *path*: `models.<name>.model` for `models.local.model`."""
    return ".".join((path[0], ANY_NAME, *path[2:]) if path[:1] == ("models",) and len(path) > 1 else path)


def holds_paths(path: KeyPath) -> bool:
    """Whether the value at *path* is a file's name, or a list of such, or one of a table of such."""
    field = known_keys().get(general(path)) or known_keys().get(general(path[:-1]))
    return field is not None and _mentions_path(field.annotation)


def _mentions_path(annotation: object) -> bool:
    return annotation is Path or any(_mentions_path(part) for part in get_args(annotation))


def nearest(path: KeyPath) -> str | None:
    """The known key that somebody who wrote *path* most likely meant, None when nothing is near."""
    known = list(known_keys())
    if len(path) == 1:
        sections = list(dict.fromkeys(key.split(".")[0] for key in known))
        known = [*sections, *known]
    wanted = general(path)
    same_section = [key for key in known if key.rpartition(".")[0] == wanted.rpartition(".")[0]]
    same_name = [key for key in known if key.rpartition(".")[2] == path[-1]]
    close = difflib.get_close_matches(wanted, same_section, n=1)
    close = close or same_name[:1] or difflib.get_close_matches(wanted, known, n=1)
    if not close:
        return None
    return close[0].replace(ANY_NAME, path[1]) if path[0] == "models" and len(path) > 1 else close[0]
