"""The schema has a version: databases are brought up to it, once, and newer ones are left alone."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from plane_calls import Project
from sqlalchemy import create_engine, inspect, text

from overmind_controlplane.lab import tables as lab_tables
from overmind_controlplane.plane import open_database
from overmind_controlplane.pull import grants as grant_tables
from overmind_controlplane.record import migrating
from overmind_controlplane.record.database_url import WrongDatabaseUrl, read
from overmind_controlplane.record.stores import SqliteStore
from overmind_controlplane.record.tables import Row
from server import DATABASE_VARIABLE, run_command, start_control_plane

STEPS = Path(migrating.__file__).with_name("migrations")


def dump(path: Path) -> list[str]:
    """Everything in an SQLite file."""
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def test_the_steps_make_the_tables_that_the_code_has(tmp_path: Path, database_url: str | None) -> None:
    assert lab_tables.Row is grant_tables.Row is Row
    database = open_database(tmp_path, database_url)

    with database.store.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Row.metadata)
    database.close()

    # What is read back of an index on `priority DESC` differs in spelling.
    assert set() == {str(line) for line in differences if "jobs_open" not in str(line)}


def test_the_last_step_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(STEPS))

    assert [migrating.HEAD] == ScriptDirectory.from_config(config).get_heads()


def test_a_folder_without_a_version_is_taken_over(tmp_path: Path) -> None:
    """As version 0.1.0 left it: the tables of the first step, no version, a job that waits."""
    with start_control_plane(tmp_path) as plane:
        project = Project(plane.url, plane.tokens)
        job_id = project.submit.make_job({"a": 1}, function="convert", function_version="1.0")["id"]
        plane.stop()
        with sqlite3.connect(plane.data / "control-plane.db") as connection:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
            for line in ("DROP INDEX jobs_open", "DROP INDEX jobs_leased", "DROP INDEX jobs_reserved"):
                connection.execute(line)
            for name in (
                *("priority", "labels", "demand", "reserved_for", "reserved_until", "lease_until"),
                *("ends", "ends_now", "traceparent", "signature"),
            ):
                connection.execute(f"ALTER TABLE jobs DROP COLUMN {name}")
            connection.execute("ALTER TABLE tokens DROP COLUMN more_projects")
            for name in ("instance", "not_accepting"):
                connection.execute(f"ALTER TABLE agents DROP COLUMN {name}")
            for name in (
                "demands",
                "sweeps",
                "audit",
                "grants",
                "datapoints",
                "datasets",
                "target_agents",
                "alembic_version",
            ):
                connection.execute(f"DROP TABLE {name}")
        connection.close()

        plane.start()
        project = Project(plane.url, plane.tokens)
        offered = {
            version: project.agent.next_job(project.agent.register(modules=[("convert", version)]))
            for version in ("2.0", "1.0")
        }
        project.close()

    assert {"priority", "demand"} < columns
    assert {"message": "no job"} == offered["2.0"]
    assert job_id == offered["1.0"]["id"]


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    open_database(tmp_path).close()
    path = tmp_path / "control-plane.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = dump(path)

    with pytest.raises(migrating.NewerSchema, match="9999"):
        open_database(tmp_path)
    ended = run_command("serve", "--data", str(tmp_path), "--port", "0")

    assert (78, "") == (ended.returncode, ended.stdout)
    assert "9999" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert before == dump(path)


def test_of_many_that_open_an_empty_database_one_migrates(tmp_path: Path, database_url: str | None) -> None:
    tmp_path.joinpath("plane").mkdir()

    with ThreadPoolExecutor(6) as pool:
        opened = [pool.submit(open_database, tmp_path / "plane", database_url) for _ in range(6)]
        databases = [made.result(30) for made in opened]

    with databases[0].read() as session:
        versions = list(session.scalars(text("SELECT version_num FROM alembic_version")))
    for database in databases:
        database.close()
    assert [migrating.HEAD] == versions


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "control-plane.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE audit (number INTEGER)")  # in the way of the second step
    connection.close()

    with pytest.raises(Exception, match="audit"):
        migrating.bring_up_to_date(SqliteStore(path))

    engine = create_engine(f"sqlite:///{path}")
    tables = inspect(engine).get_table_names()
    engine.dispose()
    assert ["audit"] == tables


@pytest.mark.parametrize(
    ("text_of_url", "said"),
    [
        ("mysql://root:hunter2@host/db", "mysql://"),
        ("sqlite:///hunter2.db", "sqlite://"),
        ("hunter2", "cannot be read"),
        ("postgresql://user:hunter2@host:port/db", "cannot be read"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(text_of_url: str, said: str) -> None:
    with pytest.raises(WrongDatabaseUrl, match=said) as refusal:
        read(text_of_url)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_gets_the_one_driver(scheme: str) -> None:
    assert "postgresql+psycopg" == read(f"{scheme}://user:secret@host/name").drivername


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_database_that_is_not_there_is_said_without_the_password(tmp_path: Path, how: str) -> None:
    url = "postgresql+psycopg://user:hunter2@127.0.0.1:1/none"
    told = ["--data", str(tmp_path), "--port", "0", "--log-level", "debug"]
    told += ["--database", url] if how == "argument" else []
    environment = {DATABASE_VARIABLE: url} if how == "environment" else {}

    ended = run_command("serve", *told, environment=environment)

    assert (69, "") == (ended.returncode, ended.stdout)
    assert "127.0.0.1" in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr
