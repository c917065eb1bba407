"""A nursery that is ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from overmind_agent.children.nursery import Nursery
from overmind_agent.children.order import SAFE_PATH
from overmind_agent.clock import SystemClock

READY_S = 30.0


@contextmanager
def opened(environment: Mapping[str, str], job_types: Sequence[str] = ()) -> Iterator[Nursery]:
    """One over a host's own variables; this process must be a sub-reaper."""
    made = Nursery(
        {"LANG": "C.UTF-8", "PATH": SAFE_PATH, **environment},
        owner="test",
        job_types=job_types,
        clock=SystemClock(threading.Event()),
        log=structlog.get_logger(),
    )
    made.start()
    try:
        assert made.wait_until_ready(READY_S)
        yield made
    finally:
        made.close()
