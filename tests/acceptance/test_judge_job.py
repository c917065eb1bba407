"""Outputs scored by the installed daemon and a real control plane, and counted again from what was downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from host import Host, Submitter, jsonl

from overmind_executors import recount
from zoo import Zoo
from zoo_judges import RubricJudge

MORE = """
[policy]
judge_cache_days = 1.0

[models.judge]
base_url = "{url}"
model = "judge"
input_price = 1.0
output_price = 1.0

[models.vectors]
base_url = "{url}"
model = "vectors"
kind = "embeddings"
"""


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    """A judge that is always right."""
    with Zoo({"judge": RubricJudge()}) as running:
        yield running


@pytest.fixture
def judging_host(host: Host, zoo: Zoo) -> Host:
    """A host with a judge and a model for embeddings, whose answers are kept for a day."""
    host.config.write_text(host.config.read_text() + MORE.format(url=zoo.url))
    return host


def test_outputs_are_scored_once_and_the_figures_hold(
    judging_host: Host, submitter: Submitter, zoo: Zoo, tmp_path: Path
) -> None:
    rows = [{"id": f"r{n}", "input": "q", "output": f"{'fine' if n % 4 else 'poor'} {n}"} for n in range(12)]
    judge = {"models": ["judge"], "criteria": ["It is fine."], "pass_threshold": 0.5}
    rows[0]["expected_output"] = rows[0]["output"]
    cosine = {"kind": "embedding_cosine", "model": "vectors"}
    parameters = {"items": rows, "judge": judge, "evaluators": [cosine]}
    jobs = [submitter.submit(parameters, job_type="judge_scoring") for _ in range(2)]

    for _ in range(2):
        agent = judging_host.start("--once")
        assert 0 == agent.exit_code(), agent.raw

    records = [submitter.record(job_id) for job_id in jobs]
    assert [75.0, 75.0] == [record["best_score"] for record in records]
    used = [record["result"]["usage"] for record in records]
    assert [(13, 0), (0, 13)] == [(one["model_calls"], one["cached_answers"]) for one in used]
    assert 13 == zoo.total
    assert [(1, 1.0)] * 2 == [
        (one["scored"], one["mean"]) for one in (r["result"]["evaluators"]["embedding_cosine"] for r in records)
    ]
    assert records[0]["report_markdown"].startswith("# Scores")
    assert "Completed" == submitter.history(jobs[1])[-1]
    for name, content in submitter.files(jobs[1]).items():
        (tmp_path / name).write_bytes(content)
    assert 12 == len(jsonl((tmp_path / "scores.jsonl").read_bytes()))
    assert 75.0 == json.loads((tmp_path / "summary.json").read_text())["best_score"]
    assert 0 == recount.main([str(tmp_path)])
