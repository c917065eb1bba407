"""What a run of the tests may be asked for: all of what `make chaos` does, and with which seed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="all of the sweeps, profiles and examples, not a share")
    parser.addoption(
        "--seed", type=int, default=None, help="of the disturbances; without it they are the same each time"
    )
    parser.addoption("--no-shrink", action="store_true", help="do not look for the smallest failing example")


@pytest.fixture(scope="session")
def is_whole(request: pytest.FixtureRequest) -> bool:
    """Whether everything is to be tried, which takes minutes, or a share."""
    return bool(request.config.getoption("--chaos"))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What the disturbances follow from."""
    given = request.config.getoption("--seed")
    return 7 if given is None else int(given)
