"""A report as one HTML page that loads nothing, runs nothing and takes every text as text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final

from overmind_executors.report.content import Cell, Figure, Part, Report, Section, Table, paragraph, plain, shown
from overmind_executors.report.drawing import svg_of

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
.lead { font-size: 1.1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
.caption { font-weight: 600; margin: 0 0 .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; max-width: 30rem; overflow-wrap: break-word; }
th { vertical-align: bottom; }
th.number, td.number { text-align: right; white-space: nowrap; }
figure { margin: 1.5rem 0; } svg { max-width: 100%; height: auto; }
figcaption { font-weight: 600; }
summary { cursor: pointer; font-size: .9rem; }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #16181b; } }
@media print { body { max-width: none; } details { display: none; } }
"""
# Nothing may be loaded, run or sent. The one style sheet is allowed by its digest, so that no other one is.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)


def to_html(report: Report) -> str:
    """*report* as a whole page; the same bytes for the same report."""
    title = escape(plain(report.title))
    body = "\n".join((f"<h1>{title}</h1>", _paragraph(report.lead, "lead"), *map(_section, report.sections)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = "\n".join(map(_part, section.parts))
    return f"<section>\n<h2>{escape(plain(section.title))}</h2>\n{parts}\n</section>"


def _part(part: Part) -> str:
    if isinstance(part, str):
        return _paragraph(part)
    return _table(part) if isinstance(part, Table) else _figure(part)


def _paragraph(text: str, style: str = "") -> str:
    return f"<p{f' class={style}' if style else ''}>{escape(paragraph(text))}</p>"


def _figure(figure: Figure) -> str:
    caption = escape(plain(figure.table.caption))
    numbers = f"<details>\n<summary>The numbers</summary>\n{_table(figure.table)}\n</details>"
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{svg_of(figure)}\n{numbers}\n</figure>"


def _table(table: Table) -> str:
    classes = [_class_of(column) for column in zip(*table.rows, strict=True)] or [""] * len(table.columns)
    head = "".join(
        f'<th scope="col"{style}>{escape(plain(name))}</th>'
        for name, style in zip(table.columns, classes, strict=True)
    )
    rows = "\n".join(f"<tr>{_cells(row, classes)}</tr>" for row in table.rows)
    caption = escape(plain(table.caption))
    # The caption stands above what can be scrolled: a narrow table would break it into many lines.
    return (
        f'<div class="wide">\n<p class="caption">{caption}</p>\n<table aria-label="{caption}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _class_of(column: Iterable[Cell]) -> str:
    """A column with a number in it, and beside numbers nothing but gaps, is set to the right, its heading too."""
    cells = [cell for cell in column if cell is not None]
    return ' class="number"' if cells and all(map(_is_number, cells)) else ""


def _cells(row: Iterable[Cell], classes: Iterable[str]) -> str:
    numbers = (style or _class_of([cell]) for cell, style in zip(row, classes, strict=True))
    return "".join(f"<td{style}>{escape(shown(cell))}</td>" for cell, style in zip(row, numbers, strict=True))


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)
