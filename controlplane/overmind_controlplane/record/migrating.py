"""Brings a database to the present schema when it is opened: one process does it, the others wait."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from overmind_controlplane.record.stores import Store

HEAD: Final = "0011"
"""The last step under `migrations/versions`; known here, so that a database that has it needs no Alembic."""

_STEPS: Final = Path(__file__).with_name("migrations")
_FIRST: Final = "0001"
_VERSIONS: Final = "alembic_version"


class NewerSchema(Exception):
    """The database was changed by a later version of this program; nothing was done to it."""


def bring_up_to_date(store: Store) -> None:
    """
    Take the steps that are missing, in one transaction.

    Raises:
        NewerSchema: the database has taken steps that are not known here.
    """
    with store.engine.connect() as connection, connection.begin():
        if _version(connection) == HEAD:
            return
    with store.turn(), store.writing.connect() as connection, connection.begin():
        store.begin(connection)
        store.hold_schema(connection)
        version = _version(connection)
        if version != HEAD:
            _upgrade(connection, version)


def _version(connection: Connection) -> str | None:
    """The last step that was taken; of tables without a version the first; None of an empty database."""
    tables = inspect(connection).get_table_names()
    if _VERSIONS in tables:
        version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return version
    return _FIRST if "jobs" in tables else None


def _upgrade(connection: Connection, version: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_STEPS))
    config.attributes["connection"] = connection
    steps = ScriptDirectory.from_config(config)
    if version not in {None, *(step.revision for step in steps.walk_revisions())}:
        raise NewerSchema(
            f"the database has schema {version}, and this version knows none after {HEAD}; "
            "it was used by a newer one: install that"
        )
    if version is not None:
        MigrationContext.configure(connection).stamp(steps, version)
    command.upgrade(config, "head")
