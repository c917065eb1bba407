"""The generated client inside `overclaw` 0.2.2, unmodified, drives the jobs REST."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from plane_calls import Project

SESSION = Path(__file__).with_name("overclaw_session.py")


def play(project: Project) -> dict[str, Any]:
    """What a session with that client saw."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OVERMIND_")}
    ended = subprocess.run(
        [sys.executable, str(SESSION), project.tokens.project_id],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=kept | {"OVERMIND_API_URL": project.url, "OVERMIND_API_TOKEN": project.tokens.submit},
    )
    assert 0 == ended.returncode, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return seen


def test_it_reports_a_run_and_makes_every_call(project: Project) -> None:
    seen = play(project)

    job = project.submit.read("GET", f"/api/jobs/{seen.pop('job')}/")
    assert {
        "same_agent": True,
        "points": 90,
        "cases": True,
        "agent": ["other", "m", "Other"],
        "eval_spec": "d",
        "agents": 1,
        "jobs": ["pending", 7, 4, 7],
        "listed": [True],
        "iteration": "because",
        "put": "first",
        "read": True,
        "steps": ["first"],
        "with_steps": ["first"],
        "refusals": ["NotFoundException 404", "NotFoundException 404"],
    } == seen
    assert ("completed", 61.5, 70.5, 9.0, "# Report", "code", {"m-2": {"score": 1.5}}, 2, 3, "m-1") == (
        job["status"],
        job["baseline_score"],
        job["best_score"],
        job["improvement"],
        job["report_markdown"],
        job["best_agent_code"],
        job["backtest_results"],
        job["num_iterations"],
        job["candidates_per_iteration"],
        job["analyzer_model"],
    )
    steps = sorted(job["iterations"], key=lambda step: step["order"])
    assert [("iter_001", 70.5, "keep"), ("iter_002", 60.0, "discard")] == [
        (step["iteration_name"], step["avg_score"], step["status"]) for step in steps
    ]
