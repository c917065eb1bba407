"""What a report says: plain values, of which every text is taken as text, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Cell = str | int | float | None
Drawn = Literal["bars", "columns", "dots", "line"]

_MOST_LETTERS: Final = 400
_MOST_OF_A_PARAGRAPH: Final = 4000


@dataclass(frozen=True)
class Table:
    """
    Attributes:
        columns: the heading of each column.
        rows: each as long as *columns*; None is shown as a dash.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.caption!r}: every row needs {len(self.columns)} cells")


@dataclass(frozen=True)
class Figure:
    """
    A table and how it is drawn; its numbers are shown beneath the drawing.

    Attributes:
        table: the first column is the x axis: texts for `bars` (lying) and `columns` (standing), numbers for `dots`
            and `line`. Every further column is a series of numbers; bars and columns have one. None is left out.
        diagonal: draw the line from 0/0 to 1/1, on which a well calibrated judge stands; for `dots` and `line`.
        labels: what stands beside the dots of each row; none for no labels.
    """

    drawn: Drawn
    table: Table
    diagonal: bool = False
    labels: tuple[str, ...] = ()


Part = str | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a text is a paragraph."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Report:
    """
    Attributes:
        title: of the whole page.
        lead: the answer in a sentence or two, for who reads no further.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]


def shown(cell: Cell) -> str:
    """*cell* as it is read: whole numbers in groups of three digits, others with four significant ones."""
    if cell is None:
        return "–"  # noqa: RUF001  # a dash is meant
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 10_000 else f"{cell:,.0f}"
    return plain(cell)


def plain(text: str, *, most: int = _MOST_LETTERS) -> str:
    """
    *text* on one line, in letters that do nothing but stand there, cut at *most*: no control characters, none that
    turn the direction of writing or have no width.
    """
    kept = "".join(letter if letter.isprintable() else " " if letter in "\n\r\t" else "\ufffd" for letter in text)
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def paragraph(text: str) -> str:
    """As `plain`, for texts of some sentences."""
    return plain(text, most=_MOST_OF_A_PARAGRAPH)
