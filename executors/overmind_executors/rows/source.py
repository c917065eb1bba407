"""Where a job's rows are: given with it, in its input file, or in a file of the host that a job may read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field as Bounded
from pydantic import model_validator

from overmind_executors.contract import Context, InvalidParameters, Problem
from overmind_executors.parameters import Parameters
from overmind_executors.rows import columns
from overmind_executors.rows.columns import ColumnMap
from overmind_executors.rows.files import Line, RowFile, row_file
from overmind_executors.rows.rows import BrokenRow, Row, is_batch, is_batch_output, rows_of

Format = Literal["auto", "jsonl", "json", "csv", "parquet", "xlsx", "otlp", "inspect", "openai_batch"]
Column = Annotated[str, Bounded(min_length=1, max_length=1000)]
# So many rows are looked at for the names of the columns.
_SAMPLED: Final = 200


class Columns(Parameters):
    """Which column is what; what is None is found by its name."""

    id: Column | None = None
    input: Column | None = None
    output: Column | None = None
    expected_output: Column | None = None
    order: Column | None = None

    def told(self) -> dict[str, str]:
        """Field to column, for those that are named."""
        told: dict[str, str] = self.model_dump(exclude_none=True)
        return told


class RowPlace(Parameters):
    """
    Where rows are and how they are read: the parameters that every job type over rows shares.

    Attributes:
        items: the rows themselves; else they are the job's input file, or a file at `path`.
        items_file, dataset_id: where the input file came from; the host has fetched it.
        path: of a file in one of the host's data roots.
        encoding: of a text file; None for what it looks like.
        mapping: which column is what, for rows that have names of their own.
    """

    items: Annotated[list[Any], Bounded(min_length=1)] | None = None
    items_file: str | None = None
    dataset_id: str | None = None
    model_id: str | None = None
    path: Annotated[str, Bounded(min_length=1, max_length=4096)] | None = None
    format: Format = "auto"
    encoding: Annotated[str, Bounded(min_length=1, max_length=40)] | None = None
    mapping: Columns = Columns()

    @model_validator(mode="after")
    def _one_place(self) -> RowPlace:
        named = [name for name in ("items", "items_file", "dataset_id", "path") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"rows from one place, not from {' and '.join(named)}")
        return self


@dataclass(frozen=True)
class RowSource:
    """
    The rows of a job; can be read again and again.

    Attributes:
        items: given within the parameters, else None and there is a *file*.
        most: read so many at most, 0 for all.
        columns: how the rows' own names become ours.
    """

    items: list[Any] | None
    file: RowFile | None
    most: int = 0
    columns: ColumnMap = field(default_factory=ColumnMap)

    def rows(self, *, unique: bool = True) -> Iterator[Row | BrokenRow]:
        """One entry after the other. Raises InvalidParameters when the file as a whole is wrong."""
        return rows_of(self.lines(), most=self.most, unique=unique)

    def lines(self) -> Iterator[Line]:
        """The entries with our names for their fields, before anything is made of them."""
        for line in self._as_written():
            yield Line(line.number, self.columns.renamed(line.value)) if line.fault is None else line

    def _as_written(self) -> Iterator[Line]:
        if self.file is None:
            return (Line(number, item) for number, item in enumerate(self.items or (), start=1))
        return self.file.lines()

    def names(self) -> list[str]:
        """The columns of the first 200 rows; none for lines of OpenAI's batch format, which need no mapping."""
        found: dict[str, None] = {}
        for line in islice(self._as_written(), _SAMPLED):
            if isinstance(line.value, dict) and not is_batch(line.value) and not is_batch_output(line.value):
                found.update(dict.fromkeys(line.value))
        return list(found)

    def described(self) -> dict[str, Any]:
        """How the rows were read, for a summary."""
        encoding = None if self.file is None or self.file.file_format in ("parquet", "xlsx") else self.file.encoding
        return {
            "format": self.file.file_format if self.file else "items",
            "encoding": encoding.name if encoding else None,
            "encoding_is_guess": encoding.is_guess if encoding else False,
            "columns": [guess.as_json() for guess in self.columns.guesses if guess.why != "name"],
        }


def find_rows(
    place: RowPlace, context: Context, *, most: int = 0, wanted: tuple[columns.Field, ...] = columns.FIELDS
) -> RowSource:
    """
    Where the rows are.

    Args:
        wanted: the fields to look for among the rows' own names.

    Raises:
        InvalidParameters: nowhere, in two places, or where this host does not let a job read; the mapping names a
            column that no row has.
    """
    source = _found(place, context, most)
    mapped = columns.map_columns(source.names(), place.mapping.told(), wanted=wanted)
    if place.items is not None and not place.mapping.told() and _has_our_names(place.items, wanted):
        # Whoever writes rows into the parameters with our names means our names, and nothing else by others.
        mapped = ColumnMap(tuple(guess for guess in mapped.guesses if guess.column == guess.field))
    return RowSource(source.items, source.file, most, mapped)


def _has_our_names(items: list[Any], wanted: tuple[columns.Field, ...]) -> bool:
    looked_at = [item for item in items[:_SAMPLED] if isinstance(item, Mapping)]
    has_output = "output" not in wanted or any("output" in item for item in looked_at)
    return has_output and all("input" in item for item in looked_at)


def _found(place: RowPlace, context: Context, most: int) -> RowSource:
    if place.items is not None:
        if context.input_file is not None:
            raise InvalidParameters(Problem("items", "the job has an input file too; give its rows in one place"))
        return RowSource(place.items, None, most)
    path = allowed(place.path, context.data_roots) if place.path is not None else context.input_file
    if path is None:
        named = next((name for name in ("items_file", "dataset_id") if getattr(place, name)), "items")
        raise InvalidParameters(Problem(named, "the job has no rows: neither items, nor path, nor an input file"))
    return RowSource(None, row_file(path, file_format=place.format, encoding=place.encoding), most)


def allowed(path: str, roots: tuple[Path, ...]) -> Path:
    """
    The file *path* of one of *roots*, with every link followed before it is compared.

    Raises:
        InvalidParameters: there is none, or the host lets no job read by path.
    """
    if not roots:
        raise InvalidParameters(Problem("path", "this host lets no job read files by path; it has no data_roots"))
    for root in roots:
        try:
            found = (root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            continue
        if found.is_file() and found.is_relative_to(root.resolve()):
            return found
    raise InvalidParameters(Problem("path", "no such file in this host's data_roots"))
