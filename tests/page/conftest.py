"""A real browser without a window, and a control plane for it to look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Final

import pytest
from page_scenes import Scene
from plane_calls import Project, project_on
from playwright.sync_api import Browser, sync_playwright

from server import ControlPlaneProcess, start_control_plane

NAMES: Final = ("chromium-headless-shell", "chromium")


@pytest.fixture(scope="module")  # while it runs, so does an event loop in this thread, which others have no use for
def browser() -> Iterator[Browser]:
    """Debian's Chromium; each test has a window of its own."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "there is no Chromium to look with; on Debian: apt-get install chromium-headless-shell"
    with sync_playwright() as playwright:
        # Its own sandbox needs name spaces that a container or root does not have; it sees our pages alone.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneProcess]:
    """A server on SQLite."""
    with start_control_plane(tmp_path_factory.mktemp("watched")) as running:
        yield running


@pytest.fixture
def project(plane: ControlPlaneProcess) -> Iterator[Project]:
    """A project of one test."""
    yield from project_on(plane)


@pytest.fixture
def scene(project: Project) -> Scene:
    """In which jobs can be made to happen."""
    return Scene(project)
