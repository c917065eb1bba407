"""Jobs that somebody cancels: how soon they end, and what they had made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from host import Host, Submitter, inference, jsonl, reviews, wait_until

from server import ControlPlaneProcess
from zoo import Zoo
from zoo_judges import RubricJudge
from zoo_writers import by_question, rows, tuned

# What a cancel is given: to keep further calls back, and to end the job. The bar for calls is one second; four jobs
# end at once here, on a machine that may have other work.
NO_CALL_AFTER_S: Final = 2.0
ENDED_AFTER_S: Final = 10.0
MODELS: Final = """
[models.{name}]
base_url = "{url}"
model = "{name}"
max_concurrency = 2
"""


@dataclass(frozen=True)
class Kind:
    """A type of job: its parameters, one model that it calls, and the file that has what it had made."""

    parameters: dict[str, Any]
    calls: str
    partial: str


JOBS: Final = {
    "inference": Kind(inference(reviews(1000)), "sentiment", "partial-output.jsonl"),
    "judge_scoring": Kind(
        {
            "items": [{"id": f"r{n}", "input": "q", "output": f"fine {n}"} for n in range(1000)],
            "judge": {"models": ["judge"], "criteria": ["It is fine."]},
        },
        "judge",
        "partial-scores.jsonl",
    ),
    "model_backtesting": Kind(
        {
            "items": [{"id": f"r{n}", "input": f"question {n}"} for n in range(1000)],
            "current_model": "old",
            "models": ["new"],
            "evaluators": [{"kind": "contains", "value": "fine"}],
        },
        "old",
        "partial-rows.jsonl",
    ),
    "prompt_tuning": Kind(
        {
            "items": rows(300),
            "prompt": "Say right or wrong. worth=0.3",
            "target": {"model": "tuned", "temperature": 0.0},
            "analyzer_model": "writer",
        },
        "tuned",
        "partial-trials.jsonl",
    ),
}


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    """Models that take a fifth of a second for an answer, so that no job is done before it is canceled."""
    writer = by_question(lambda number: f"Style {number}. worth=0.{number % 30 + 70}")
    others = {
        "judge": RubricJudge(),
        "tuned": tuned,
        "writer": writer,
        "old": lambda _m: "fine",
        "new": lambda _m: "x",
    }
    with Zoo(others) as running:
        running.latency_s = 0.05
        yield running


@pytest.fixture
def host(tmp_path: Path, plane: ControlPlaneProcess, zoo: Zoo) -> Iterator[Host]:
    """A host with a slot for each type of job."""
    made = Host(tmp_path / "host", plane.url, plane.agent_token, zoo.url, more=f"slots = {len(JOBS)}")
    models = "".join(MODELS.format(name=name, url=zoo.url) for name in ("judge", "tuned", "writer", "old", "new"))
    made.config.write_text(made.config.read_text() + models)
    yield made
    made.stop_all()


def test_a_canceled_job_of_any_type_makes_no_further_call_and_leaves_what_it_had_made(
    host: Host, submitter: Submitter, zoo: Zoo
) -> None:
    """One job of each type that calls models, all canceled in one moment."""
    agent = host.start()
    jobs = {job_type: submitter.submit(kind.parameters, job_type=job_type) for job_type, kind in JOBS.items()}
    asked = {kind.calls for kind in JOBS.values()}
    wait_until(lambda: all(sum(body["model"] == name for body in zoo.bodies) >= 6 for name in asked))

    for job_id in jobs.values():
        submitter.cancel(job_id)
    canceled_at_s = time.monotonic()
    for job_id in jobs.values():
        agent.wait_for("job.canceled", job_id=job_id)

    took_s = time.monotonic() - canceled_at_s
    assert took_s <= ENDED_AFTER_S
    assert max(zoo.came_at_s) - canceled_at_s <= NO_CALL_AFTER_S
    assert {"Canceled"} == {submitter.history(job_id)[-1] for job_id in jobs.values()}
    for job_type, kind in JOBS.items():
        files = submitter.files(jobs[job_type])
        assert [] == [name for name in files if not name.startswith("partial-")]
        assert 0 < len(jsonl(files[kind.partial])) < 1000
