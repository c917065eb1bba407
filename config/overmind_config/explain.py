"""What pydantic found, said in the words of the one who wrote the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from overmind_config.keys import KeyPath, nearest
from overmind_config.problems import Problem
from overmind_config.sources import PREFIX, Layer

# What to do, by pydantic's name for what is wrong.
_REMEDIES: Final = {
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "string_type": "write it in quotes",
    "tuple_type": "write a list",
    "path_type": "write a path in quotes",
    "model_type": "write it as a table with keys of its own",
    "mapping_type": "write it as a table",
    "dict_type": "write it as a table of the configuration file; a variable cannot hold one",
}
_FALLBACK: Final = "the reference agent.toml shows what fits"
_NEVER_SHOWN: Final = frozenset({"token", "api_key", "proxy", "url", "base_url"})
_SHOWN_LETTERS: Final = 60


def explain(error: ValidationError, layers: Sequence[Layer]) -> Iterator[Problem]:
    """One problem for each thing that does not fit; *layers* tell where it was written."""
    for line in error.errors(include_url=False):
        path = _key_path(line)
        where = place(path, layers)
        if line["type"] == "extra_forbidden":
            yield Problem(where, "unknown key", _suggestion(path, layers))
        elif line["type"] == "missing":
            yield Problem(f"{'.'.join(path)} ({origin(path[:-1], layers)})", "it is not set", "set it")
        else:
            yield _misfit(line, path, where)


def origin(path: KeyPath, layers: Sequence[Layer]) -> str | None:
    """Where the value at *path*, or anything below it, comes from; the strongest layer counts."""
    for layer in layers:
        for known, name in layer.origins.items():
            if known[: len(path)] == path or path[: len(known)] == known:
                return name
    return None


def place(path: KeyPath, layers: Sequence[Layer]) -> str:
    """`agent.slots (/etc/overmind-agent/agent.toml)`."""
    return f"{'.'.join(path)} ({origin(path, layers) or 'default'})"


def _key_path(line: ErrorDetails) -> KeyPath:
    """The key, without the position in a list and pydantic's own marks."""
    steps: list[str] = []
    for step in line["loc"]:
        if isinstance(step, int) or step == "[key]":
            break
        steps.append(step)
    return tuple(steps)


def _suggestion(path: KeyPath, layers: Sequence[Layer]) -> str:
    known = nearest(path)
    if known is None:
        return "remove it"
    if (origin(path, layers) or "").startswith("$"):
        known = f"${PREFIX}{known.upper().replace('.', '__')}"
    return f"did you mean {known}?"


def _misfit(line: ErrorDetails, path: KeyPath, where: str) -> Problem:
    message = line["msg"].removeprefix("Value error, ")
    what, _, remedy = message.partition("; ")
    return Problem(
        where,
        what[:1].lower() + what[1:] + ("" if line["type"] == "value_error" else _got(line["input"], path)),
        remedy or _REMEDIES.get(line["type"], _FALLBACK),
    )


def _got(value: Any, path: KeyPath) -> str:
    if not _NEVER_SHOWN.isdisjoint(path) or not isinstance(value, (str, int, float)):
        return ""
    text = repr(value)
    return f" (got {text if len(text) <= _SHOWN_LETTERS else text[:_SHOWN_LETTERS] + '…'})"
