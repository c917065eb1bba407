"""Every test on both stores: one server for each for the suite; a project of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plane_calls import Api, Project, project_on
from postgres import Postgres

from server import ControlPlaneProcess, start_control_plane

STORES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, started once."""
    with Postgres.start() as running:
        yield running


@pytest.fixture(scope="session", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The store that the test is about."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def session_database_url(store: str, request: pytest.FixtureRequest) -> str | None:
    """An empty database for the servers of the suite; None for SQLite in their folder."""
    return request.getfixturevalue("postgres").new_database() if store == "postgresql" else None


@pytest.fixture
def database_url(store: str, request: pytest.FixtureRequest) -> str | None:
    """An empty database for one test; None for SQLite in a folder."""
    return request.getfixturevalue("postgres").new_database() if store == "postgresql" else None


@pytest.fixture(scope="session")
def plane(
    tmp_path_factory: pytest.TempPathFactory, store: str, session_database_url: str | None
) -> Iterator[ControlPlaneProcess]:
    """A server whose leases outlast every test."""
    with start_control_plane(tmp_path_factory.mktemp("plane"), database_url=session_database_url) as running:
        yield running


@pytest.fixture(scope="session")
def hasty_plane(
    tmp_path_factory: pytest.TempPathFactory, store: str, request: pytest.FixtureRequest
) -> Iterator[ControlPlaneProcess]:
    """A server whose leases run out after half a second, on a database that nobody else sweeps."""
    url = request.getfixturevalue("postgres").new_database() if store == "postgresql" else None
    with start_control_plane(tmp_path_factory.mktemp("hasty"), lease_s=0.5, database_url=url) as running:
        yield running


@pytest.fixture
def project(plane: ControlPlaneProcess) -> Iterator[Project]:
    """A project on the patient server."""
    yield from project_on(plane)


@pytest.fixture
def stranger(plane: ControlPlaneProcess) -> Iterator[Project]:
    """Another one there, which is to see nothing of the first."""
    yield from project_on(plane)


@pytest.fixture
def hasty(hasty_plane: ControlPlaneProcess) -> Iterator[Project]:
    """A project on the hasty server."""
    yield from project_on(hasty_plane)


@pytest.fixture
def submitter(project: Project) -> Api:
    """Calls with a submit token."""
    return project.submit


@pytest.fixture
def agent(project: Project) -> Api:
    """Calls with an agent token."""
    return project.agent
