"""Taking in outputs in a child process that may die at any moment."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from child_process import Child

Start = Callable[..., Child]
ROWS: Final = 6000


def _order(child: Child, attempt: int) -> Child:
    assert {"event": "ready"} == child.event()
    (child.folder / "outputs.jsonl").write_text(
        "".join(json.dumps({"id": f"r{n}", "output": f"answer {n}" * 5}) + "\n" for n in range(ROWS))
    )
    dataset = [{"id": f"r{n}", "input": "x"} for n in range(10)]
    return child.order(
        job_type="uploaded_outputs_setup",
        attempt=attempt,
        input_file="outputs.jsonl",
        input_name="outputs.jsonl",
        parameters={"dataset": dataset, "max_reject_ratio": 1.0},
    )


def _until(child: Child, *steps: str) -> None:
    """Wait until *child* is at one of *steps*."""
    while (event := child.event()) is not None:
        if event.get("step_name") in steps:
            return
    raise AssertionError(f"it ended before {steps}: {child.log()}")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes().replace(b'"attempt":2', b'"attempt":1')
        for path in (folder / "output").iterdir()
    }


def test_a_job_that_was_killed_makes_the_same_files_when_it_begins_again(
    start_child: Start, tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    assert "done" == _order(start_child(undisturbed), attempt=1).result()["status"]
    folder = tmp_path / "workspace"
    child = _order(start_child(folder), attempt=1)
    _until(child, "rows")
    child.signal(signal.SIGKILL)
    child.wait()

    assert "done" == _order(start_child(folder), attempt=2).result()["status"]

    assert _bytes(undisturbed) == _bytes(folder)


def test_a_job_that_is_asked_to_stop_leaves_at_once(start_child: Start) -> None:
    child = _order(start_child(), attempt=1)
    _until(child, "binding", "rows")

    child.signal(signal.SIGTERM)

    child.wait(timeout_s=5)
    assert {"status": "stopped"} == child.result()
