"""The command: projects, tokens, starting, stopping, and coming back after a crash."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from plane_calls import Api, Project, names

from overmind_controlplane.plane import open_database
from overmind_controlplane.record.tables import Row
from server import ControlPlaneProcess, run_command, start_control_plane


def run(*arguments: str, plane: ControlPlaneProcess | None = None) -> subprocess.CompletedProcess[str]:
    """The command, to its end; on the database of *plane*."""
    return run_command(*arguments, environment=plane.environment if plane else None)


def run_anew(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as it is installed."""
    command = [str(Path(sys.executable).with_name("overmind-control-plane")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_token_is_made_used_and_revoked_while_the_server_runs(plane: ControlPlaneProcess) -> None:
    data = ("--data", str(plane.data))
    project = run("project", "create", "by-command", *data, plane=plane)
    token = run(
        "token", "create", *data, "--project", "by-command", "--role", "submit", "--name", "ci", plane=plane
    )
    secret = token.stdout.strip()
    headers = {"X-Api-Key": secret}
    before = requests.get(plane.url + "/api/v2/jobs", headers=headers, timeout=10)
    listing = run("token", "list", *data, "--json", plane=plane)
    (record,) = [line for line in json.loads(listing.stdout) if line["project"] == "by-command"]
    revoked = run("token", "revoke", record["id"], *data, plane=plane)
    after = requests.get(plane.url + "/api/v2/jobs", headers=headers, timeout=10)

    assert (0, 0, 0, 0) == (project.returncode, token.returncode, listing.returncode, revoked.returncode)
    assert 1 == len(token.stdout.splitlines())
    assert secret.startswith("ovr_")
    assert ("submit", "ci", None) == (record["role"], record["name"], record["expires_at"])
    assert secret not in listing.stdout
    assert (200, 401) == (before.status_code, after.status_code)
    assert {"detail": "API key is inactive."} == after.json()


def test_a_secret_is_kept_nowhere(plane: ControlPlaneProcess) -> None:
    database = open_database(plane.data, plane.database_url)
    with database.read() as session:
        kept = repr([list(session.execute(table.select())) for table in Row.metadata.sorted_tables]).encode()
    database.close()
    kept += b"".join(path.read_bytes() for path in plane.data.glob("control-plane.db*"))

    assert plane.tokens.project_id.encode() in kept
    assert plane.submit_token.encode() not in kept


def test_an_expired_token_is_refused(plane: ControlPlaneProcess) -> None:
    project = plane.new_project()
    listed = json.loads(run("token", "list", "--data", str(plane.data), "--json", plane=plane).stdout)
    (name,) = {line["project"] for line in listed if line["project_id"] == project.project_id}
    asked = ("--data", str(plane.data), "--project", name, "--role", "agent", "--expires-days", "0")
    made = run("token", "create", *asked, plane=plane)

    answer = requests.get(plane.url + "/api/v2/jobs", headers={"X-Api-Key": made.stdout.strip()}, timeout=10)

    assert (401, {"detail": "API key has expired."}) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 64, "required"),
        (("fly",), 64, "invalid choice"),
        (("serve",), 64, "--data"),
        (("serve", "--data", "{data}", "--host", "0.0.0.0"), 64, "--allow-remote"),
        (("serve", "--data", "{data}", "--lease-s", "0"), 64, "positive"),
        (("token", "create", "--data", "{data}", "--project", "none", "--role", "agent"), 1, "project create none"),
        (("token", "create", "--data", "{data}", "--project", "none", "--role", "boss"), 64, "boss"),
        (("token", "revoke", "nothing", "--data", "{data}"), 1, "token list"),
    ],
)
def test_a_wrong_command_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    ended = run(*(argument.format(data=tmp_path / "plane") for argument in arguments))

    assert (code, "") == (ended.returncode, ended.stdout)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_projects_are_listed(plane: ControlPlaneProcess) -> None:
    made = run("project", "create", "listed", "--data", str(plane.data), plane=plane).stdout.strip()

    table = run("project", "list", "--data", str(plane.data), plane=plane).stdout
    told = json.loads(run("project", "list", "--data", str(plane.data), "--json", plane=plane).stdout)

    assert [made] == [line.split()[0] for line in table.splitlines() if line.endswith("  listed")]
    assert [made] == [project["id"] for project in told if project["name"] == "listed"]


def test_a_project_has_one_name(plane: ControlPlaneProcess) -> None:
    first = run("project", "create", "twice", "--data", str(plane.data), "--json", plane=plane)
    second = run("project", "create", "twice", "--data", str(plane.data), plane=plane)

    assert "twice" == json.loads(first.stdout)["name"]
    assert (1, "") == (second.returncode, second.stdout)


def test_a_port_that_is_taken_is_said(plane: ControlPlaneProcess, tmp_path: Path) -> None:
    port = plane.url.rpartition(":")[2]

    ended = run_anew("serve", "--data", str(tmp_path / "other"), "--port", port)

    assert 69 == ended.returncode
    assert port in ended.stderr


def test_help_is_quick_and_has_examples() -> None:
    ended = run_anew("--help")
    heavy = run_python(
        "import overmind_controlplane.cli, sys; print([m for m in ('sqlalchemy', 'fastapi') if m in sys.modules])"
    )

    assert 0 == ended.returncode
    assert "overmind-control-plane serve --data ./plane" in ended.stdout
    assert "[]" == heavy


def run_python(code: str) -> str:
    """What *code* prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_stop_is_clean_and_quick_while_requests_are_held(tmp_path: Path, database_url: str | None) -> None:
    with start_control_plane(tmp_path, database_url=database_url) as plane, ThreadPoolExecutor(3) as pool:
        project = Project(plane.url, plane.tokens)
        agent_id = project.agent.register()
        held = [pool.submit(Api(plane.url, plane.agent_token).next_job, agent_id, 30) for _ in range(2)]
        assert {"message": "no job"} == project.agent.next_job(agent_id, 0.2)

        began = time.monotonic()
        code = plane.stop()
        took_s = time.monotonic() - began

        assert [{"message": "no job"}] * 2 == [answer.result(5) for answer in held]
        assert 0 == code
        assert took_s < 2.0
        project.close()


def test_a_stop_does_not_wait_for_a_client_that_says_nothing(tmp_path: Path, database_url: str | None) -> None:
    with start_control_plane(tmp_path, database_url=database_url) as plane:
        host, port = plane.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(b"POST /api/jobs/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
            requests.get(plane.url + "/health", timeout=10)

            began = time.monotonic()
            code = plane.stop()

            assert (0, True) == (code, time.monotonic() - began < 2.0)


def test_a_crash_loses_nothing_that_was_answered(tmp_path: Path, database_url: str | None) -> None:
    with start_control_plane(tmp_path, database_url=database_url) as plane:
        project = Project(plane.url, plane.tokens)
        model = project.submit.make_model(b"data")
        job = project.submit.make_job({"a": 1}, model_id=model["id"])
        agent_id = project.agent.register("lease")
        claimed = project.agent.say(job["id"], "Claimed", agent_id, key="k").json()
        project.agent.say(job["id"], "Validating", agent_id, attempt=1, sequence=1)
        project.agent.call(
            "PUT", f"/api/v2/jobs/{job['id']}/logs?offset=0", b"line\n", headers={"Overmind-Attempt": "1"}
        )
        before: dict[str, Any] = project.submit.job(job["id"])

        plane.kill()
        plane.restart()

        sha = model["file"]["revisions"][0]["content_token"]["sha"]
        again = project.agent.say(job["id"], "Claimed", agent_id, key="k").json()
        replay = project.agent.say(job["id"], "Validating", agent_id, attempt=1, sequence=1)
        onwards = project.agent.say(job["id"], "Running", agent_id, attempt=1, sequence=2)
        assert before == project.submit.job(job["id"]) | {"status_history": before["status_history"]}
        assert b"data" == project.submit.get_blob(sha)
        assert b"line\n" == project.submit.call("GET", f"/api/v2/jobs/{job['id']}/logs").content
        assert (claimed["attempt"], 200, 200) == (again["attempt"], replay.status_code, onwards.status_code)
        assert ["Pending", "Claimed", "Validating", "Running"] == names(onwards.json())
        project.close()


def test_one_server_holds_a_data_folder_with_its_database(plane: ControlPlaneProcess) -> None:
    """On SQLite leases are measured with the server's clock, so there can be one."""
    ended = run("serve", "--data", str(plane.data), "--port", "0")

    assert (73, "") == (ended.returncode, ended.stdout)
    assert str(plane.data) in ended.stderr


def test_after_a_restore_nobody_goes_on_under_an_old_attempt(tmp_path: Path, database_url: str | None) -> None:
    with start_control_plane(tmp_path, database_url=database_url) as plane:
        project = Project(plane.url, plane.tokens)
        job_id, done_id = (project.submit.make_job()["id"] for _ in range(2))
        agent_id = project.agent.register("lease", "fence")
        project.agent.walk(done_id, agent_id, "Completed")
        assert project.agent.say(job_id, "Claimed", agent_id, key="k").ok
        project.close()
        plane.stop()

        told = run("restored", "--data", str(plane.data), "--json", plane=plane)

        plane.start()
        project = Project(plane.url, plane.tokens)
        answer = project.agent.say(job_id, "Validating", agent_id, attempt=1, sequence=1)
        orders = project.agent.heartbeat(agent_id, (job_id, 1))["jobs"]
        done = project.submit.job(done_id)
        project.close()

    assert {"jobs": 1} == json.loads(told.stdout)
    assert (409, "superseded", 1001) == (answer.status_code, *(answer.json()[key] for key in ("code", "attempt")))
    assert ["superseded"] == [order["directive"] for order in orders]
    assert 1 == done["attempt"]
