"""A backtest through the installed daemon and a real control plane, read in each of the three dialects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host import Host, Submitter, jsonl, reviews

from overmind_executors import recount
from zoo import Zoo, sentiment

MORE = """
[models.chatty]
base_url = "{url}"
model = "chatty"
input_price = 1.0
output_price = 1.0
"""


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    """`chatty` never answers the question."""
    with Zoo({"chatty": lambda _messages: "I see. Tell me more.", "sentiment": sentiment}) as running:
        yield running


@pytest.fixture
def backtesting_host(host: Host, zoo: Zoo) -> Host:
    """A host with a second model."""
    host.config.write_text(host.config.read_text() + MORE.format(url=zoo.url))
    return host


def test_a_backtest_is_read_in_all_three_dialects(
    backtesting_host: Host, submitter: Submitter, tmp_path: Path
) -> None:
    prompt = {"system_prompt": "positive or negative? one word", "temperature": 0}
    parameters: dict[str, Any] = {
        "items": reviews(30),
        "current_model": "chatty",
        "models": ["local"],
        "prompt": prompt,
        "evaluators": [{"kind": "exact_match"}],
    }
    job_id = submitter.submit(parameters, job_type="model_backtesting")

    agent = backtesting_host.start("--once")

    assert 0 == agent.exit_code(), agent.raw
    record = submitter.record(job_id)
    results = record["backtest_results"]
    assert "SWITCH" == results["decision"]["verdict"]
    assert ["QUALITY_SUPERIOR", "PRICE_UNKNOWN"] == results["decision"]["reasons"]
    assert (0.0, 100.0, 100.0) == (record["baseline_score"], record["best_score"], record["improvement"])
    assert parameters == record["result"]["parameters"]
    assert record["report_markdown"].startswith("# SWITCH")
    assert "Completed" == submitter.history(job_id)[-1]
    files = submitter.files(job_id)
    assert {"rows.jsonl", "summary.json", "report.md", "report.html", "pareto.svg"} <= set(files)
    assert 30 == len(jsonl(files["rows.jsonl"]))
    assert "SWITCH" == json.loads(files["summary.json"])["decision"]["verdict"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert 0 == recount.main([str(tmp_path)])
    path = f"/api/v2/projects/{record['project']}/prompt-optimization-jobs"
    assert job_id not in json.dumps(submitter.call("GET", path))  # whose jobs are of one other type
