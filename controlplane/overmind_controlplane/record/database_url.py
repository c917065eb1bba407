"""Which database the record is kept in: a PostgreSQL URL, read so that its password never comes to light."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_DRIVER: Final = "postgresql+psycopg"
_SPELLINGS: Final = frozenset({_DRIVER, "postgresql", "postgres"})


class WrongDatabaseUrl(Exception):
    """It is not a URL of a PostgreSQL database; the message has nothing of it but its scheme."""


def read(text: str) -> URL:
    """
    The database at *text*.

    Raises:
        WrongDatabaseUrl: it is none that can be used here.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise WrongDatabaseUrl(
            f"the database URL cannot be read; write {_DRIVER}://user:password@host/name"
        ) from None
    if url.drivername not in _SPELLINGS:
        raise WrongDatabaseUrl(
            f"the database URL must start with {_DRIVER}:// (got {url.drivername[:40]}://); "
            "leave it out for SQLite in the data folder"
        )
    return url.set(drivername=_DRIVER)
