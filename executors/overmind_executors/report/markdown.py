"""A report as Markdown: for a record's `report_markdown`, a terminal, a comment on a change."""

from __future__ import annotations

import re
from typing import Final

from overmind_executors.report.content import Figure, Part, Report, Section, Table, paragraph, plain, shown

# What could begin a link, a tag, a heading, a table cell or emphasis.
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def to_markdown(report: Report) -> str:
    """*report* as Markdown; a figure is its table."""
    parts = (f"# {_text(report.title)}", _escaped(paragraph(report.lead)), *map(_section, report.sections))
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> str:
    return "\n\n".join((f"## {_text(section.title)}", *map(_part, section.parts)))


def _part(part: Part) -> str:
    if isinstance(part, str):
        return _escaped(paragraph(part))
    return _table(part.table if isinstance(part, Figure) else part)


def _table(table: Table) -> str:
    lines = [table.columns, ("---",) * len(table.columns)]
    head = [_line([_text(name) for name in lines[0]]), _line(list(lines[1]))]
    rows = [_line([_text(shown(cell)) for cell in row]) for row in table.rows]
    return "\n".join((f"**{_text(table.caption)}**", "", *head, *rows))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    return _escaped(plain(text))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
