"""prompt_tuning over real models of the zoo: what is promoted, what is refused, and what it says of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overmind_executors.contract import Context, ModelEndpoint, Result
from overmind_executors.tuning import PromptTuningExecutor
from overmind_executors.tuning.recounting import recounted
from zoo import Zoo
from zoo_writers import Writer, rows, tuned

Make = Callable[..., Context]
PROMPT = "Say right or wrong. worth=0.4"


@pytest.fixture
def writer() -> Writer:
    return Writer([f"Say right or wrong, and think {n} times. worth=0.95" for n in range(1, 9)])


@pytest.fixture
def zoo(writer: Writer) -> Iterator[Zoo]:
    with Zoo({"tuned": tuned, "writer": writer}) as opened:
        yield opened


def job(number: int = 60, **changes: Any) -> dict[str, Any]:
    """Parameters of a small job."""
    small = {"num_iterations": 2, "candidates_per_iteration": 1, "repeats": 1}
    target = {"model": "tuned", "temperature": 0.0}
    return {
        "items": rows(number), "prompt": PROMPT, "target": target, "analyzer_model": "writer", **small, **changes
    }  # fmt: skip


def run(make_context: Make, zoo: Zoo, parameters: dict[str, Any], **changes: Any) -> Result:
    """The result of a job."""
    models = {
        name: ModelEndpoint(name, zoo.url, name, input_price=1.0, output_price=1.0) for name in ("tuned", "writer")
    }
    executor = PromptTuningExecutor()
    return executor.run(executor.validate(parameters), make_context(**{"models": models, **changes}))


def test_a_prompt_that_is_better_is_promoted(make_context: Make, zoo: Zoo, tmp_path: Path) -> None:
    found = run(make_context, zoo, job())

    outcome = found.outcome
    assert ("promoted", True) == (outcome["verdict"], outcome["promoted"])
    assert "worth=0.95" in outcome["best_agent_code"]
    summary, again = recounted(tmp_path / "output")
    assert summary == again
