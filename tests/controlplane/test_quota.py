"""A project whose jobs wait in great numbers makes no more of them, and takes nothing from the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from plane_calls import Project
from test_dialects import make_dataset, root

from overmind_controlplane.jobs import quota
from overmind_controlplane.jobs.quota import Quota, TooManyJobs
from overmind_controlplane.plane import open_database
from server import ControlPlaneProcess, make_tokens, start_control_plane

LAB = {"job_type": "inference", "status": "pending", "result": {"parameters": {}}}
VERSION = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"


def filled(plane: ControlPlaneProcess, number: int) -> Project:
    """A project with so many jobs that wait."""
    project = Project(plane.url, plane.new_project())
    for _ in range(number):
        project.submit.make_job()
    return project


def test_a_job_too_many_is_429_in_every_dialect_and_others_are_not(tmp_path: Path) -> None:
    with start_control_plane(tmp_path, arguments=("--max-waiting-jobs", "2")) as plane:
        full, other = filled(plane, 2), filled(plane, 0)
        model = full.submit.make_model()["id"]
        body = full.submit.upload(b"{}", "parameters.json")
        optimise = {"prompt_template_version_id": VERSION, "dataset_id": make_dataset(full)}
        refused = [
            full.submit.call("POST", f"/api/v2/models/{model}/jobs?function_name=@overmind:inference", body),
            full.submit.call("POST", "/api/jobs/", LAB),
            full.submit.call("POST", root(full), optimise),
        ]
        granted = other.submit.make_job()
        listed = full.submit.read("GET", "/api/v2/jobs")["total"]
        full.close()
        other.close()

    assert [(429, "too_many_jobs", "30")] * 3 == [
        (one.status_code, one.json()["code"], one.headers["Retry-After"]) for one in refused
    ]
    assert ["detail", "detail", "message"] == [next(iter(one.json())) for one in refused]
    assert granted["id"]
    assert 2 == listed


def test_a_job_that_is_refused_takes_no_room(tmp_path: Path) -> None:
    with start_control_plane(tmp_path, arguments=("--max-waiting-jobs", "2")) as plane:
        project = filled(plane, 1)
        body = project.submit.upload(b"{}", "parameters.json")
        path = "/api/v2/models/nobody/jobs?function_name=@overmind:inference"
        refused = [project.submit.call("POST", path, body).status_code for _ in range(3)]
        granted = project.submit.make_job()
        project.close()

    assert [404] * 3 == refused
    assert granted["id"]


def test_jobs_are_counted_anew_when_the_room_is_used_up(tmp_path: Path) -> None:
    """What is done makes room; and who is refused has the jobs counted once a second."""
    project_id, now, counted = make_tokens(tmp_path).project_id, 0.0, []
    database = open_database(tmp_path)
    few = Quota(3, lambda: now)
    with database.write() as session:
        for _ in range(3):
            few.take(session, project_id)
        with pytest.raises(TooManyJobs, match="3 jobs of this project wait already"):
            few.take(session, project_id)
        now = quota.RECOUNT_S
        few.take(session, project_id)  # none of the three was made, so none waits
        counted.append(now)
    database.close()

    assert [quota.RECOUNT_S] == counted


def test_no_quota_is_no_limit(tmp_path: Path) -> None:
    project_id = make_tokens(tmp_path).project_id
    database = open_database(tmp_path)
    with database.write() as session:
        taken = [Quota(0, lambda: 0.0).take(session, project_id) for _ in range(10)]
    database.close()

    assert [None] * 10 == taken
