"""On which line of a TOML file a key stands; for people, so a file that is written in an unusual way has none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from overmind_config.toml_file import NoConfiguration, text_of

_SECTION: Final = re.compile(r"\[\s*([A-Za-z0-9_.-]+)\s*\]\s*(#.*)?")
_KEY: Final = re.compile(r"([A-Za-z0-9_.-]+)\s*=")


def lines_of(path: Path) -> dict[str, int]:
    """The line of each dotted key that is written as `key = …` below its `[section]`; counted from 1."""
    found: dict[str, int] = {}
    section = ""
    try:
        lines = text_of(path).splitlines()
    except NoConfiguration:
        return {}
    for number, line in enumerate(lines, start=1):
        if head := _SECTION.fullmatch(line.strip()):
            section = f"{head[1]}."
        elif key := _KEY.match(line):
            found.setdefault(section + key[1], number)
    return found
