"""The two files of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from overmind_executors.report.content import Report
from overmind_executors.report.html import to_html
from overmind_executors.report.markdown import to_markdown

MARKDOWN: Final = "report.md"
HTML: Final = "report.html"
# What an outcome, of 64 KiB, has room for beside its figures.
_MOST_OF_AN_OUTCOME: Final = 16 << 10


def rendered(report: Report) -> Mapping[str, bytes]:
    """The bytes of both files by name; the same for the same report."""
    return {MARKDOWN: to_markdown(report).encode(), HTML: to_html(report).encode()}


def write(report: Report, folder: Path) -> tuple[str, str]:
    """Write both files into *folder*; returns their names."""
    for name, content in rendered(report).items():
        (folder / name).write_bytes(content)
    return MARKDOWN, HTML


def with_text(facts: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """*facts* with the Markdown of *report* as `report_markdown`, if that is not too long for an outcome."""
    text = to_markdown(report)
    return {**facts, "report_markdown": text} if len(text.encode()) <= _MOST_OF_AN_OUTCOME else facts
