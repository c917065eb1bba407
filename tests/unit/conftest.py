"""What the tests of the rooms share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon_parts import Daemon
from overmind_agent.testing import FakeServer, VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server(clock: VirtualClock) -> FakeServer:
    return FakeServer(clock)


@pytest.fixture
def start(tmp_path: Path, server: FakeServer, clock: VirtualClock) -> Iterator[Callable[..., Daemon]]:
    """`start(…)`: a daemon over this test's folder."""
    started: list[Daemon] = []

    def begin(**parts: Any) -> Daemon:
        started.append(Daemon(tmp_path, server, clock, **parts))
        return started[-1]

    yield begin
    for daemon in started:
        daemon.close()


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start()
