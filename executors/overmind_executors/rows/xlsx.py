"""
Rows of the first sheet of an Excel workbook, by openpyxl, from the extra `[data]`.

Nothing is computed: a cell with a formula is the formula's text. The workbook comes from a stranger and is a zip
archive of XML: what it says that it unpacks to is bounded before any of it is read, and Python's zipfile reads no
more of a member than that.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from overmind_executors.rows.packed import MAX_RATIO, unreadable

MOST_UNPACKED_BYTES: Final = 128 << 20
_RATIO_FROM_BYTES: Final = 16 << 20
_MOST_COLUMNS: Final = 1000
_SHEET: Final = "xl/workbook.xml"
# A broken workbook meets openpyxl wherever it happens to be.
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, ParseError, EOFError, OSError, NotImplementedError, RuntimeError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError),
)

Header = tuple[str, ...]


def is_workbook(path: Path) -> bool:
    """Whether *path* is a zip archive with a workbook in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _SHEET in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def table(path: Path) -> Iterator[tuple[int, Header, Sequence[Any]]]:
    """
    Each row below the header that has a cell: its number in the sheet, the header, its cells.

    A cell is a text, a number, true or false, or None; dates and times are ISO 8601. There is one cell more than
    the header has names where the row has more.

    Raises:
        InvalidParameters: the extra is not installed; the workbook is broken, unpacks to too much, or has no
            header.
    """
    try:
        import openpyxl
    except ImportError:
        raise unreadable(
            "is an Excel workbook, and this host has nothing to read it with: pip install 'overmind-agent[data]'",
            "xlsx_not_installed",
        ) from None
    _refuse_large(path)
    try:
        # Given as a file, for a path is judged by its ending. Warnings are of styles that nobody here looks at.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(file, read_only=True, data_only=False, keep_links=False)
            try:
                yield from _rows_of(book.worksheets[0])
            finally:
                book.close()
    except _BROKEN as error:
        raise unreadable(f"cannot be read as an Excel workbook ({type(error).__name__})", "bad_xlsx") from error


def _refuse_large(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
    most = min(MOST_UNPACKED_BYTES, max(_RATIO_FROM_BYTES, MAX_RATIO * path.stat().st_size))
    if size_bytes > most:
        raise unreadable(f"unpacks to more than {most} bytes", "zip_bomb")


def _rows_of(sheet: Any) -> Iterator[tuple[int, Header, Sequence[Any]]]:
    sheet.reset_dimensions()  # what the workbook says of its size is a claim
    first = next(sheet.iter_rows(max_row=1, max_col=_MOST_COLUMNS + 1, values_only=True), ())
    names = [None if cell is None else str(cell) for cell in first]
    while names and names[-1] is None:
        names.pop()
    header = tuple(name for name in names if name)
    if not names or len(names) > _MOST_COLUMNS or len(header) != len(names) or len(set(header)) != len(header):
        raise unreadable("has a first row with an empty name or one name twice", "bad_header")
    rows = sheet.iter_rows(min_row=2, max_col=len(header) + 1, values_only=True)
    for number, cells in enumerate(rows, start=2):
        if any(cell is not None for cell in cells):
            values = [_plain(cell) for cell in cells]
            yield (
                number,
                header,
                values if len(values) > len(header) and values[-1] is not None else values[: len(header)],
            )


def _plain(cell: Any) -> Any:
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    return cell if isinstance(cell, str | int | float | None) else str(cell)
