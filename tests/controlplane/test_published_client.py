"""The published `istari-digital-client`, unmodified, drives the control plane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plane_calls import Project

SESSION = Path(__file__).with_name("istari_session.py")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client may write."""
    return tmp_path_factory.mktemp("home")


def play(project: Project, home: Path, *tokens: str) -> dict[str, Any]:
    """What a session with the published client saw."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISTARI_")}
    ended = subprocess.run(
        [sys.executable, str(SESSION), project.url, *tokens],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=kept | {"HOME": str(home), "TMPDIR": str(home), "ISTARI_CLIENT_LOG_LEVEL": "CRITICAL"},
    )
    assert 0 == ended.returncode, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return seen


def test_it_submits_works_and_reads_the_result(project: Project, home: Path) -> None:
    seen = play(project, home, project.tokens.submit, project.tokens.agent)

    assert {
        "created": "Pending",
        "available": [True],
        "rows": {"rows": [1, 2, 3]},
        "parameters": {"target": "x"},
        "polled": "Completed",
        "result": '{"score": 0.5}',
        "listed": [True],
        "artifacts": [True],
        "products": [["Artifact", True]],
        "agent_status": "Idle",
        "agent_name": "worker-1",
        "history": ["Idle", "ExecutingJob", "Idle"],
        "updated": {"target": "y"},
        "model_jobs": 2,
        "cancelled": "Canceled",
        "assigned": [True, True],
        "archived": "Archived",
        "restored": "Active",
        "in_parts": 300000,
        "refusals": ["ConflictException 409", "NotFoundException 404", "ForbiddenException 403"],
    } == seen


def test_one_token_may_do_both(project: Project, home: Path) -> None:
    seen = play(project, home, project.tokens.admin, project.tokens.admin)

    assert "Completed" == seen["polled"]
