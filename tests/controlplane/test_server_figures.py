"""`GET /metrics` of the control plane: what it counts, whose jobs it shows, and that the page lists all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from plane_calls import Project

from overmind_controlplane.serving.metrics import METRICS, PREFIX
from overmind_controlplane.serving.traffic import Traffic, dialect_of

PAGE: Final = Path(__file__).parents[2] / "docs" / "seeing-inside.md"


def _figures(project: Project, accept: str = "") -> dict[str, float]:
    answer = project.admin.call("GET", "/metrics", headers={"Accept": accept})
    assert 200 == answer.status_code, answer.text
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if line.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): float(value) for name, value in lines}


def _of_jobs(found: dict[str, float]) -> dict[tuple[str, str], float]:
    pattern = re.compile(r'jobs\{job_type="(.*?)",project=".*?",status="(.*?)"\}')
    return {(match[1], match[2]): value for name, value in found.items() if (match := pattern.fullmatch(name))}


def test_the_queue_of_the_project_is_shown(project: Project) -> None:
    for _ in range(2):
        project.submit.make_job({"a": 1}, function="@overmind:inference")
    project.submit.make_job({"a": 1}, function="convert")
    agent_id = project.agent.register("lease")

    found = _figures(project)

    assert {("inference", "Pending"): 2.0, ("function", "Pending"): 1.0} == _of_jobs(found)
    ready = [value for name, value in found.items() if name.startswith("agents{") and 'state="ready"' in name]
    assert [1.0] == ready
    assert 0 < max(value for name, value in found.items() if name.startswith("oldest_waiting_seconds"))
    assert agent_id not in str(found)


def test_what_is_final_is_not_counted(project: Project) -> None:
    job_id = project.submit.make_job({"a": 1})["id"]
    project.submit.say(job_id, "Canceled")

    assert {} == _of_jobs(_figures(project))


def test_another_projects_jobs_are_not_shown(project: Project, stranger: Project) -> None:
    stranger.submit.make_job({"a": 1})

    found = _of_jobs(_figures(project))

    assert {} == found


def test_requests_are_counted_by_dialect_and_status(project: Project) -> None:
    before = _figures(project)
    project.submit.call("GET", "/api/jobs/")
    project.submit.call("GET", "/api/v2/jobs/nothing-of-that-name")

    after = _figures(project)

    def more(dialect: str, code: str) -> float:
        name = f'requests_total{{code="{code}",dialect="{dialect}"}}'
        return after[name] - before.get(name, 0)

    assert (1, 1) <= (more("overmind-lab", "2xx"), more("agent-pull", "4xx"))
    assert after['request_seconds_total{dialect="overmind-lab"}'] > before.get(
        'request_seconds_total{dialect="overmind-lab"}', 0
    )
    assert after['batched_calls_total{kind="tokens"}'] >= after['batches_total{kind="tokens"}'] > 0


@pytest.mark.parametrize("role", ["submit", "agent"])
def test_only_an_administrator_sees_them(project: Project, role: str) -> None:
    assert 403 == getattr(project, role).call("GET", "/metrics").status_code


def test_an_odd_version_is_answered_in_some_form(project: Project) -> None:
    assert _figures(project, "application/openmetrics-text; version=x")


def test_a_scraper_may_ask_for_openmetrics(project: Project) -> None:
    answer = project.admin.call("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/api/v2/jobs", "agent-pull"),
        ("/api/v2/projects/x/prompt-optimization-jobs/", "prompt-optimization"),
        ("/api/jobs/", "overmind-lab"),
        ("/blobs/abc", "blobs"),
        ("/health", "probe"),
        ("/metrics", "probe"),
        ("/", "page"),
        ("/../etc/passwd", "page"),
    ],
)
def test_each_path_is_of_one_dialect(path: str, dialect: str) -> None:
    assert dialect == dialect_of(path)


def test_a_request_without_an_answer_is_counted() -> None:
    traffic = Traffic()

    traffic.answered("/api/jobs/", 0, 0.5)
    traffic.answered("/api/jobs/", 503, 0.25)

    assert {("overmind-lab", "none"): 1, ("overmind-lab", "5xx"): 1} == traffic.requests
    assert {"overmind-lab": 0.75} == traffic.seconds


def test_the_page_lists_every_metric_with_its_labels_and_nothing_else() -> None:
    rows = re.findall(rf"^\| `({PREFIX}\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)

    wanted = [
        (f"{PREFIX}{name}{'_total' if kind == 'counter' else ''}", kind, ", ".join(f"`{x}`" for x in labels), about)
        for name, (kind, labels, about) in METRICS.items()
    ]
    assert wanted == rows
