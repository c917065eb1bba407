"""A real control plane, a zoo of models and a host with the installed command: everything in its own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host import Host, Submitter

from server import ControlPlaneProcess, start_control_plane
from zoo import Zoo


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    """Chat models that answer by rule."""
    with Zoo() as running:
        yield running


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlaneProcess]:
    """A control plane of the test's own, for the test may kill it."""
    with start_control_plane(tmp_path) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, plane: ControlPlaneProcess, zoo: Zoo) -> Iterator[Host]:
    """A worker host with a token and a configuration file."""
    made = Host(tmp_path / "host", plane.url, plane.agent_token, zoo.url)
    yield made
    made.stop_all()


@pytest.fixture
def submitter(plane: ControlPlaneProcess) -> Iterator[Submitter]:
    """Somebody who submits jobs and reads their results."""
    made = Submitter(plane.url, plane.submit_token)
    yield made
    made.close()


# What `make chaos` tries and `make test` has no share of: they need more than Python, and minutes.
WHOLE_ONLY = ("test_clock.py", "test_drains.py", "test_system_calls.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name in WHOLE_ONLY and not config.getoption("--chaos") else None
