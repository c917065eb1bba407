"""One agent for several projects: each gets its turn, each keeps what is its own, and nobody else's is seen."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from plane_calls import Api, Project, names
from sqlalchemy import select

from overmind_controlplane.access import make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.plane import open_database
from overmind_controlplane.record.tables import Project as ProjectRow
from overmind_controlplane.refusals import Conflict
from server import ControlPlaneProcess, run_command


@pytest.fixture
def projects(plane: ControlPlaneProcess) -> Iterator[list[Project]]:
    """Three projects of one server."""
    made = [Project(plane.url, plane.new_project()) for _ in range(3)]
    yield made
    for project in made:
        project.close()


@pytest.fixture
def shared(plane: ControlPlaneProcess, projects: list[Project]) -> Iterator[Api]:
    """Calls with an agent's token for the first two."""
    api = Api(plane.url, token_for(plane, projects[:2]))
    yield api
    api.close()


def token_for(plane: ControlPlaneProcess, projects: list[Project], role: Role = Role.AGENT) -> str:
    """A token of these projects."""
    database = open_database(plane.data, plane.database_url)
    try:
        with database.write() as session:
            found = {row.id: row.name for row in session.scalars(select(ProjectRow))}
            first, *more = (found[project.tokens.project_id] for project in projects)
            return make_token(session, first, role, more_projects=more)[0]
    finally:
        database.close()


def take(agent: Api, agent_id: str) -> str:
    """Claim what is offered; its id."""
    job_id: str = agent.next_job(agent_id)["id"]
    assert 200 == agent.say(job_id, "Claimed", agent_id).status_code
    return job_id


def test_a_question_brings_the_same_grant_again_whichever_project_it_is_of(
    projects: list[Project], shared: Api
) -> None:
    job_id = projects[1].submit.make_job()["id"]
    agent_id = shared.register()

    granted = [shared.next_claim(agent_id, "k").json() for _ in range(2)]

    assert [(job_id, 1)] * 2 == [(job["id"], job["attempt"]) for job in granted]


def test_projects_take_turns_however_many_jobs_one_of_them_has(projects: list[Project], shared: Api) -> None:
    first, second, _ = projects
    many = [first.submit.make_job()["id"] for _ in range(4)]
    few = [second.submit.make_job()["id"] for _ in range(2)]
    agent_id = shared.register()

    taken = [take(shared, agent_id) for _ in range(6)]

    assert [many[0], few[0], many[1], few[1], many[2], many[3]] == taken


def test_an_agent_that_names_projects_is_offered_no_jobs_of_others(projects: list[Project], shared: Api) -> None:
    """Its host would give them back, and be granted them again, for ever."""
    first, second, _ = projects
    first.submit.make_job()
    wanted = second.submit.make_job()["id"]
    agent_id = shared.register("lease", f"project:{second.tokens.project_id}", "project:of-nobody")

    taken = [shared.next_claim(agent_id, key).json() for key in ("a", "b")]

    assert (wanted, {"message": "no job"}) == (taken[0]["id"], taken[1])


def test_a_higher_priority_goes_before_a_turn(projects: list[Project], shared: Api) -> None:
    first, second, _ = projects
    urgent = [first.submit.make_job(priority=1)["id"] for _ in range(2)]
    other = second.submit.make_job()["id"]
    agent_id = shared.register()

    assert [*urgent, other] == [take(shared, agent_id) for _ in range(3)]


def test_a_job_of_the_other_project_is_done_and_its_files_land_there(projects: list[Project], shared: Api) -> None:
    first, second, _ = projects
    job = second.submit.make_job({"rows": 3})
    agent_id = shared.register("lease", "fence")
    job_id = take(shared, agent_id)

    parameters = json.loads(shared.get_blob(job["file"]["revisions"][-1]["content_token"]["sha"]))
    for sequence, status in enumerate(("Validating", "Running", "Uploading"), start=1):
        assert 200 == shared.say(job_id, status, agent_id, attempt=1, sequence=sequence).status_code
    orders = shared.heartbeat(agent_id, (job_id, 1))["jobs"]
    logged = shared.read(
        "PUT", f"/api/v2/jobs/{job_id}/logs?offset=0", b"one line", headers={"Overmind-Attempt": "1"}
    )
    described = shared.upload(b"the result", "result.txt", (job["file"]["revisions"][-1]["id"],))
    made = shared.read(
        "POST", f"/api/v2/models/{job['model_id']}/artifacts", described, headers={"Overmind-Attempt": "1"}
    )
    ended = shared.say(job_id, "Completed", agent_id, attempt=1, sequence=4)

    sha = made["file"]["revisions"][-1]["content_token"]["sha"]
    assert {"rows": 3} == parameters
    assert ["continue"] == [line["directive"] for line in orders]
    assert {"offset": 8} == logged
    assert 200 == ended.status_code
    assert "Completed" == names(second.submit.job(job_id))[-1]
    assert b"the result" == second.submit.get_blob(sha)
    assert 404 == first.submit.call("GET", f"/api/v2/artifacts/{made['id']}").status_code
    assert 200 == second.submit.call("GET", f"/api/v2/artifacts/{made['id']}").status_code


def test_a_waiting_agent_is_woken_by_each_of_its_projects(projects: list[Project], shared: Api) -> None:
    agent_id = shared.register()

    offered = []
    for project in projects[:2]:
        job_id = project.submit.make_job()["id"]
        offered.append(shared.next_job(agent_id, wait_s=10)["id"] == job_id)
        project.submit.cancel(job_id)

    assert [True, True] == offered


def test_what_belongs_to_a_third_project_is_not_there(projects: list[Project], shared: Api) -> None:
    third = projects[2]
    job = third.submit.make_job()
    agent_id = shared.register()
    sha = job["file"]["revisions"][-1]["content_token"]["sha"]

    answers = {
        "read": shared.call("GET", f"/api/v2/jobs/{job['id']}"),
        "claim": shared.say(job["id"], "Claimed", agent_id),
        "model": shared.call("GET", f"/api/v2/models/{job['model_id']}"),
        "blob": shared.call("GET", f"/api/v2/tokens/{sha}/download-url"),
        "log": shared.call("PUT", f"/api/v2/jobs/{job['id']}/logs?offset=0", b"x"),
    }

    assert dict.fromkeys(answers, 404) == {name: answer.status_code for name, answer in answers.items()}
    assert {"message": "no job"} == shared.next_job(agent_id)


def test_a_token_of_fewer_projects_reaches_no_job_of_the_others_under_the_agents_id(
    projects: list[Project], shared: Api
) -> None:
    """The agent is registered in the first project, so a token of that one alone may speak for it."""
    first, second, _ = projects
    job = second.submit.make_job()
    agent_id = shared.register("lease")
    job_id = take(shared, agent_id)
    progress = {"step": 1, "total_steps": 2, "step_name": "not mine"}

    heard = first.agent.heartbeat(agent_id, (job_id, 1), progress=progress)
    again = first.agent.read(
        "POST", "/api/v2/agents", {"agent_version": "1.0", "host_os": "Debian", "agent_id": agent_id}
    )

    assert job["id"] == job_id
    assert ["superseded"] == [line["directive"] for line in heard["jobs"]]
    assert agent_id != again["id"]
    assert ["continue"] == [line["directive"] for line in shared.heartbeat(agent_id, (job_id, 1))["jobs"]]


def test_a_file_of_one_project_is_no_source_in_another(projects: list[Project], shared: Api) -> None:
    first, second, _ = projects
    theirs, ours = first.submit.make_job(), second.submit.make_job()
    described = shared.upload(b"x", "result.txt", (theirs["file"]["revisions"][-1]["id"],))

    answer = shared.call("POST", f"/api/v2/models/{ours['model_id']}/artifacts", described)

    assert 422 == answer.status_code
    assert ["body", "sources", 0, "revision_id"] == answer.json()["detail"][0]["loc"]


@pytest.mark.parametrize("role", [Role.SUBMIT, Role.ADMIN])
def test_only_an_agents_token_has_several_projects(
    plane: ControlPlaneProcess, projects: list[Project], role: Role
) -> None:
    with pytest.raises(Conflict, match="only an agent's may have several"):
        token_for(plane, projects[:2], role)


def test_the_command_makes_such_a_token(plane: ControlPlaneProcess) -> None:
    told = [f"{name}-{uuid.uuid4()}" for name in ("a", "b")]
    shared = ("--data", str(plane.data), "--json")
    made = [run("project", "create", name, *shared, plane=plane) for name in told]
    asked = [word for name in told for word in ("--project", name)]

    token = run("token", "create", *asked, "--role", "agent", *shared, plane=plane)

    assert [made[0]["id"], [made[1]["id"]]] == [token["project_id"], token["more_projects"]]


def run(*arguments: str, plane: ControlPlaneProcess) -> dict[str, object]:
    """The record that it printed."""
    done = run_command(*arguments, environment=plane.environment)
    done.check_returncode()
    record: dict[str, object] = json.loads(done.stdout)
    return record
