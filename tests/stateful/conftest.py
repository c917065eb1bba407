"""How many examples the machines are given, and where agents that are no processes have their folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

SHARED_MEMORY = Path("/dev/shm")  # nothing here is to survive, and a sync costs nothing there


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a place."""
    folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else tmp_path
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def examples(is_whole: bool, request: pytest.FixtureRequest) -> settings:
    """500 examples of 50 steps for `make chaos`; a share, always the same, for `make test`."""
    given = request.config.getoption("--seed")
    phases = [Phase.explicit, Phase.generate, Phase.shrink]
    return settings(
        max_examples=500 if is_whole else 20,
        stateful_step_count=50,
        derandomize=not is_whole or given is None,
        deadline=None,
        database=None,
        phases=phases if not request.config.getoption("--no-shrink") else phases[:-1],
        suppress_health_check=list(HealthCheck),
    )
