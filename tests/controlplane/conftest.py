"""One server for the suite; a project of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plane_calls import Api, Project

from server import ControlPlaneProcess, start_control_plane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneProcess]:
    """A server whose leases outlast every test."""
    with start_control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.fixture(scope="session")
def hasty_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneProcess]:
    """A server whose leases run out after half a second."""
    with start_control_plane(tmp_path_factory.mktemp("hasty"), lease_s=0.5) as running:
        yield running


@pytest.fixture
def project(plane: ControlPlaneProcess) -> Iterator[Project]:
    """A project on the patient server."""
    made = Project(plane.url, plane.new_project())
    yield made
    made.close()


@pytest.fixture
def hasty(hasty_plane: ControlPlaneProcess) -> Iterator[Project]:
    """A project on the hasty server."""
    made = Project(hasty_plane.url, hasty_plane.new_project())
    yield made
    made.close()


@pytest.fixture
def submitter(project: Project) -> Api:
    """Calls with a submit token."""
    return project.submit


@pytest.fixture
def agent(project: Project) -> Api:
    """Calls with an agent token."""
    return project.agent
