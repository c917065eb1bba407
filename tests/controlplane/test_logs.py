"""A job's log: bytes that arrive whole, and readers who see them as they come."""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from plane_calls import Api, Project

from overmind_agent.lifecycle import Status
from overmind_controlplane.access import authenticate
from overmind_controlplane.jobs.words import NewJob
from overmind_controlplane.plane import Plane, Settings
from overmind_controlplane.pull.logs import append as append_log
from overmind_controlplane.refusals import Conflict
from overmind_controlplane.storage import files
from overmind_controlplane.storage.joblogs import JobLogs
from server import make_tokens

DEADLINE_S = 20.0


@pytest.fixture
def held(project: Project) -> str:
    """A job that an agent holds in attempt 1; its id."""
    job_id: str = project.submit.make_job()["id"]
    agent_id = project.agent.register("lease")
    assert project.agent.say(job_id, "Claimed", agent_id, key="k").ok
    return job_id


def append(project: Project, job_id: str, offset: int, data: bytes, **headers: str) -> requests.Response:
    """Add to the log, in attempt 1."""
    told = {"Overmind-Attempt": "1"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return project.agent.call("PUT", f"/api/v2/jobs/{job_id}/logs?offset={offset}", data, headers=told)


def digest(data: bytes) -> str:
    """As RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (digest(b"line\n"), 200),
        (f"md5=:AAAA:, {digest(b'line' + bytes([10]))}", 200),
        ("md5=:AAAA:", 200),
        (digest(b"lime\n"), 412),
        ("sha-256=:AAAA:", 412),
        ("sha-256=AAAA", 422),
        ("sha-256=:A:", 422),
    ],
)
def test_bytes_that_do_not_have_their_digest_are_not_appended(
    project: Project, held: str, told: str, status: int
) -> None:
    answer = append(project, held, 0, b"line\n", Content_Digest=told)

    log = project.submit.call("GET", f"/api/v2/jobs/{held}/logs").content
    assert (status, b"line\n" if status == 200 else b"") == (answer.status_code, log)


def test_where_a_log_ends_is_told_once_that_much_is_on_the_disk(tmp_path: Path) -> None:
    """An agent that was told so does not send it again; a wrong offset is answered by where the log ends, too."""
    tokens, synced = make_tokens(tmp_path), list[int]()
    made = Plane.build(Settings(tmp_path))
    plane = replace(made, logs=JobLogs(tmp_path / "logs", sync=lambda file: synced.append(os.fstat(file).st_size)))
    revision = files.write_json(plane.blobs, tokens.project_id, "parameters.json", {})
    with plane.database.write() as session:
        caller = authenticate(session, tokens.admin)
        job = plane.board.create(session, caller, NewJob("@overmind:inference", revision, None))
        plane.board.drive(session, caller, job, Status.RUNNING)
        job_id = job.id

    end = append_log(plane, caller, job_id, 1, 0, b"line\n")
    empty = append_log(plane, caller, job_id, 1, 5, b"")
    with pytest.raises(Conflict) as refused:
        append_log(plane, caller, job_id, 1, 0, b"line\n")
    made.database.close()

    assert (5, 5, {"offset": 5}) == (end, empty, refused.value.more)
    assert [5, 5] == synced


def follow(project: Project, job_id: str, **query: Any) -> requests.Response:
    """The log as it comes."""
    api = Api(project.url, project.tokens.submit)
    return api.call("GET", f"/api/v2/jobs/{job_id}/logs", params={"follow": 1, **query}, stream=True)


def test_a_follower_sees_bytes_as_they_come_until_the_job_is_final(project: Project, held: str) -> None:
    append(project, held, 0, b"one\n")
    with follow(project, held) as answer, ThreadPoolExecutor(1) as pool:
        parts = answer.iter_content(None)
        seen = [pool.submit(next, parts).result(DEADLINE_S)]
        append(project, held, 4, b"two\n")
        seen.append(pool.submit(next, parts).result(DEADLINE_S))

        append(project, held, 8, b"three\n")
        project.submit.cancel(held)
        rest = pool.submit(lambda: b"".join(parts)).result(DEADLINE_S)

    assert [b"one\n", b"two\n"] == seen
    assert b"three\n" == rest


def test_a_follower_of_a_final_job_gets_what_is_there(project: Project, held: str) -> None:
    append(project, held, 0, b"one\ntwo\n")
    project.submit.cancel(held)

    assert b"two\n" == follow(project, held, offset=4).content


def test_a_follower_of_a_job_that_is_deleted_is_let_go(project: Project, held: str) -> None:
    append(project, held, 0, b"one\n")
    with follow(project, held) as answer, ThreadPoolExecutor(1) as pool:
        parts = answer.iter_content(None)
        assert b"one\n" == pool.submit(next, parts).result(DEADLINE_S)

        assert project.submit.call("DELETE", f"/api/jobs/{held}/").ok

        assert b"" == pool.submit(lambda: b"".join(parts)).result(DEADLINE_S)


def test_nobody_follows_the_log_of_another_project(project: Project, held: str, stranger: Project) -> None:

    answer = stranger.submit.call("GET", f"/api/v2/jobs/{held}/logs?follow=1")

    assert 404 == answer.status_code
