"""
Rows of a Parquet file, by DuckDB, from the extra `[data]`.

The file comes from a stranger and DuckDB can do a great deal, so it is let into one file, has no network and no
extensions to fetch, one thread and little memory, and its settings are locked before the file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from overmind_executors.contract import InvalidParameters
from overmind_executors.rows.packed import MAX_RATIO, MAX_UNPACKED_BYTES, RATIO_FROM_BYTES, unreadable

_MEMORY: Final = "192MB"
_ROWS_AT_ONCE: Final = 256
# Of the schema, in which a list is two. For each list in a list DuckDB takes twice as long, so 40 take hours.
_MOST_LEVELS: Final = 32
_LOCKED: Final = (
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET lock_configuration = true",
)


def json_rows(path: Path, *, most_bytes: int = MAX_UNPACKED_BYTES) -> Iterator[str]:
    """
    Each row of *path* as the text of a JSON object, in the file's order: times in ISO 8601, decimals as numbers,
    columns without a value as null.

    Args:
        most_bytes: of its columns unpacked, as the file says itself before a row is read, and of all texts
            together, since a value that is repeated takes no room in the file. From 16 MiB on neither may come to
            more than 200 times the file.

    Raises:
        InvalidParameters: the extra is not installed; while iterating: not a Parquet file, a broken one, or more
            than *most_bytes*.
    """
    try:
        import duckdb
    except ImportError:
        raise unreadable(
            "is Parquet, and this host has nothing to read it with: pip install 'overmind-agent[data]'",
            "parquet_not_installed",
        ) from None
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": _MEMORY}) as database:
        place = str(path).replace("'", "''")
        database.execute(f"SET allowed_paths = ['{place}']")
        for setting in _LOCKED:
            database.execute(setting)
        try:
            _refuse_deep(database, str(path))
            most = min(most_bytes, max(RATIO_FROM_BYTES, MAX_RATIO * path.stat().st_size))
            _refuse_large(database, str(path), most)
            yield from _bounded(_fetched(database, str(path)), most)
        except (duckdb.Error, UnicodeDecodeError) as error:
            kind = type(error).__name__
            raise unreadable(f"cannot be read as Parquet ({kind})", "bad_parquet") from error


def _refuse_deep(database: Any, path: str) -> None:
    children_left: list[int] = []
    for (count,) in database.execute("SELECT num_children FROM parquet_schema(?)", [path]).fetchall():
        while children_left and children_left[-1] == 0:
            children_left.pop()
        if children_left:
            children_left[-1] -= 1
        children_left.append(count or 0)
        if len(children_left) > _MOST_LEVELS:
            raise unreadable(f"is Parquet that nests deeper than {_MOST_LEVELS} levels", "too_deep")


def _refuse_large(database: Any, path: str, most_bytes: int) -> None:
    query = "SELECT coalesce(sum(greatest(total_uncompressed_size, 0)), 0) FROM parquet_metadata(?)"
    (size_bytes,) = database.execute(query, [path]).fetchone()
    if size_bytes > most_bytes:
        raise _too_large(most_bytes)


def _bounded(texts: Iterator[str], most_bytes: int) -> Iterator[str]:
    sum_bytes = 0
    for text in texts:
        sum_bytes += len(text)
        if sum_bytes > most_bytes:
            raise _too_large(most_bytes)
        yield text


def _too_large(most_bytes: int) -> InvalidParameters:
    return unreadable(f"unpacks to more than {most_bytes} bytes", "zip_bomb")


def _fetched(database: Any, path: str) -> Iterator[str]:
    found = database.execute("SELECT to_json(t)::VARCHAR FROM read_parquet(?) AS t", [path])
    while rows := found.fetchmany(_ROWS_AT_ONCE):
        for (text,) in rows:
            yield text
