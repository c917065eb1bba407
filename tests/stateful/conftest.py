"""How many examples the machines are given."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings


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
