"""What the executors' tests share: the zoo, a context, a child process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from child_process import Child

from overmind_executors.contract import Context, ModelEndpoint
from overmind_executors.stopping import StopFlag
from zoo import Zoo


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    with Zoo() as opened:
        yield opened


@pytest.fixture
def make_context(tmp_path: Path, zoo: Zoo) -> Callable[..., Context]:
    """`make_context(input_bytes, …)`: a context over the zoo; what differs is given by name."""

    def make(given: bytes | None = None, **changes: Any) -> Context:
        output, state = tmp_path / "output", tmp_path / "state"
        output.mkdir(exist_ok=True)
        state.mkdir(exist_ok=True)
        input_file = None
        if given is not None:
            input_file = tmp_path / "input"
            input_file.write_bytes(given)
        endpoints = (
            ModelEndpoint("echo", zoo.url, "echo", api_key="sk-canary", max_concurrency=8),
            ModelEndpoint("sentiment", zoo.url, "sentiment", input_price=1.0, output_price=10.0),
        )
        fields: dict[str, Any] = {
            "job_id": "job-1",
            "attempt": 1,
            "input_file": input_file,
            "input_name": None if given is None else "rows",
            "output": output,
            "state": state,
            "models": {endpoint.name: endpoint for endpoint in endpoints},
            "data_roots": (),
            "report": lambda *_progress: None,
            "stop": StopFlag(),
            "log": structlog.get_logger(),
        }
        return Context(**{**fields, **changes})

    return make


@pytest.fixture
def start_child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """`start_child(folder)`: a child process; whatever is still alive at the end is killed."""
    children: list[Child] = []

    def start(folder: Path | None = None, **options: Any) -> Child:
        child = Child(folder or tmp_path / "workspace", **options)
        children.append(child)
        return child

    yield start
    for child in children:
        child.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    """Threads of ours that outlive a test would hold its files and sockets."""
    yield
    left = [t for t in threading.enumerate() if t.name.startswith(("row", "paid-calls", "progress"))]
    for thread in left:
        thread.join(5)
    assert [] == [thread.name for thread in left if thread.is_alive()]
