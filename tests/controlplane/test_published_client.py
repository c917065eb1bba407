"""The published `istari-digital-client`, unmodified, drives the control plane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from plane_calls import Project

SESSION = Path(__file__).with_name("istari_session.py")
RACE = Path(__file__).with_name("istari_race.py")
ENDS = Path(__file__).with_name("istari_ends.py")
RACERS = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client may write."""
    return tmp_path_factory.mktemp("home")


def environment(home: Path) -> dict[str, str]:
    """Ours without its settings; it writes below *home* alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISTARI_")}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "ISTARI_CLIENT_LOG_LEVEL": "CRITICAL"}


def play(project: Project, home: Path, *tokens: str, session: Path = SESSION) -> dict[str, Any]:
    """What a session with the published client saw."""
    ended = subprocess.run(
        [sys.executable, str(session), project.url, *tokens],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment(home),
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
        "copied": '{"score": 0.5}',
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


def test_of_several_agents_in_a_race_one_gets_the_job(project: Project, home: Path) -> None:
    """Processes, since the client's native code lets no two threads of one process run at once."""
    job_id = project.submit.make_job()["id"]
    command = [sys.executable, str(RACE), project.url, project.tokens.agent, job_id]
    folders = [home / uuid.uuid4().hex for _ in range(RACERS)]
    for folder in folders:
        folder.mkdir()
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(folder))
        for folder in folders
    ]

    ready = [racer.stdout.readline() for racer in racers if racer.stdout]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = sorted(racer.communicate(timeout=60)[0].strip() for racer in racers)

    assert ["ready\n"] * RACERS == ready
    assert ["Claimed True", *["ConflictException 409"] * (RACERS - 1)] == ended


def test_jobs_end_and_refuse_what_comes_after(project: Project, home: Path) -> None:
    seen = play(project, home, project.tokens.submit, project.tokens.agent, session=ENDS)

    assert {
        "waiting": "Canceled",
        "claimed": "Canceled",
        "polled": ["Canceled", "Canceled", "Completed", "Failed"],
        "answers": {
            "holder goes on after the cancel": 409,
            "holder uploads after the cancel": 409,
            "claim of a canceled job": 409,
            "step after the end": 409,
            "cancel after the end": 409,
            "cancel after a failure": 409,
            "archive": 200,
            "archive again": 409,
            "restore": 200,
            "restore again": 409,
            "wrong token": 401,
            "unknown job": 404,
            "unknown job's status": 404,
            "unknown agent": 422,
        },
        "access": [["owner"], ["owner", "viewer"], ["owner", "editor"], ["owner"]],
    } == seen
