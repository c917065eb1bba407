"""
What a page of the docs shows: files to write, scripts, and commands with what they print.

A fence `console` has commands (`$ …`, for root `# …`) and their output, unless it shows none at all; `…` alone on a
line stands for any lines, and within a line for any text. A fence `sh` is a script. A fence whose paragraph before
it begins with the name of a file in backticks is that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED: Final = re.compile(r"`([\w./-]*[./][\w./-]*)`")
_FILES: Final = ("json", "jsonl", "toml", "csv", "sh")
_ANY_LINES, _ANY_TEXT = "\x00", "\x01"
# What differs from run to run, and how it is written once that is left out. In this order.
_VARIES: Final = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\b[0-9a-f]{40,}\b"), "<digest>"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{8}\b(?!-)"), "<beginning of an id>"),
    (re.compile(r"\bovr_\w+"), "<token>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[\d.]+(?:Z|\+00:00)"), "<time>"),
    (re.compile(r"(?<!\w)[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)*(?:e-?\d+)?"), "<n>"),
    (re.compile(r"[ \t]+"), " "),
]


@dataclass(frozen=True)
class Step:
    """
    Something that a reader does.

    Attributes:
        line: where it stands in the page, counted from 1.
        file: what to write *text* into; empty for a command or a script.
        text: the command, the script or the file's content.
        shown: what the page says that it prints; None where it says nothing of that.
    """

    line: int
    text: str
    file: str = ""
    shown: str | None = None


def steps(page: Path) -> list[Step]:
    """All that *page* has a reader do, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Step] = []
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 2
        language, content = fence[1], fence[2]
        named = _NAMED.match(text[: fence.start()].rstrip("\n").rpartition("\n\n")[2])
        if language == "console":
            typed = [*_commands(content, line)]
            found += typed if any(step.shown for step in typed) else [replace(step, shown=None) for step in typed]
        elif language in _FILES and named:
            found.append(Step(line, content, file=named[1]))
        elif language == "sh":
            found.append(Step(line, content.rstrip("\n")))
    return [*_with_output(found)]


def _with_output(found: list[Step]) -> Iterator[Step]:
    """What stands before the first prompt of a fence is the output of the script before it."""
    for step, after in zip_longest(found, found[1:]):
        if after is not None and not after.text:
            yield replace(step, shown=after.shown)
        elif step.text:
            yield step


def _commands(content: str, line: int) -> Iterator[Step]:
    """The commands of a fence; what stands before the first prompt is the output of no command."""
    command, began, shown = "", line, []
    for number, row in enumerate(content.splitlines(), start=line):
        if row.startswith(("$ ", "# ")):
            if command or shown:
                yield Step(began, command, shown="\n".join(shown))
            command, began, shown = row[2:], number, []
        else:
            shown.append(row)
    yield Step(began, command, shown="\n".join(shown))


def differs(shown: str, printed: str) -> str:
    """What is wrong with *printed* where a page shows *shown*; empty when nothing is."""
    expected = _told(shown)
    pattern = re.escape(expected).replace(_ANY_LINES, ".*").replace(_ANY_TEXT, "[^\n]*")
    if re.fullmatch(pattern, _told(printed), re.DOTALL):
        return ""
    return f"the page shows\n{shown}\n\nand this was printed\n{printed}"


def _told(text: str) -> str:
    lines = [line.rstrip() for line in text.strip().splitlines()]
    told = "\n".join(_ANY_LINES if line.strip() == "…" else line.replace("…", _ANY_TEXT) for line in lines)
    for varies, instead in _VARIES:
        told = varies.sub(instead, told)
    return told
