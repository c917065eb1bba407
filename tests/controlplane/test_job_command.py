"""The `job` commands over a real server: submit, list, show, watch, cancel, files."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey
from plane_calls import Project

from overmind_agent import wire
from overmind_agent.jobs import Job, RemoteFile
from overmind_agent.signing.policy import Signatures
from overmind_agent.wire import ModelFile, parse, read_job, read_revision

PARAMETERS = {"target": {"model": "m"}}


def command(*arguments: str) -> list[str]:
    """A `job` command."""
    return [sys.executable, "-m", "overmind_controlplane.cli", "job", *arguments]


def environment(project: Project, token: str | None = None) -> dict[str, str]:
    """Where the commands find the server and the token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OVERMIND_")}
    return kept | {"OVERMIND_API_URL": project.url, "OVERMIND_API_KEY": token or project.tokens.submit}


def run(
    project: Project, *arguments: str, token: str | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(project, token),
        **more,
    )


@contextmanager
def started(project: Project, *arguments: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the test, and no longer."""
    env = environment(project) | more.pop("env", {})
    streams = {"stdout": subprocess.PIPE, "text": True} | more
    with subprocess.Popen(command(*arguments), env=env, **streams) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A file of parameters."""
    path = tmp_path / "task.json"
    path.write_text(json.dumps(PARAMETERS))
    return path


@pytest.fixture
def agent_id(project: Project) -> Iterator[str]:
    """An agent that takes what there is."""
    return project.agent.register("lease")


def finish(project: Project, job_id: str, agent_id: str, files: dict[str, bytes], outcome: Any = None) -> None:
    """Take the job to its end, with these files."""
    project.agent.walk(job_id, agent_id, "Uploading")
    job = project.agent.job(job_id)
    for name, data in files.items():
        body = project.agent.upload(data, name, (job["file"]["revisions"][-1]["id"],))
        project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", body)
    project.agent.say(
        job_id, "Completed", agent_id, body={"message": "2 rows", "detail": {"outcome": outcome or {}}}
    )


def test_a_job_is_submitted_without_and_with_a_file(project: Project, task: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "x"}\n')

    bare = run(project, "submit", "--type", "inference", "--parameters", str(task))
    full = run(project, "submit", "--type", "inference", "--parameters", str(task), "--input", str(rows), "--json")

    jobs = [project.submit.job(bare.stdout.strip()), project.submit.job(json.loads(full.stdout)["id"])]
    assert [0, 0] == [bare.returncode, full.returncode]
    assert [("none", "@overmind:inference"), ("model", "@overmind:inference")] == [
        (job["input"], job["function"]["name"]) for job in jobs
    ]
    parameters = [project.agent.get_blob(job["file"]["revisions"][-1]["content_token"]["sha"]) for job in jobs]
    assert [PARAMETERS, PARAMETERS] == [json.loads(raw) for raw in parameters]
    model = project.agent.read("GET", f"/api/v2/models/{jobs[1]['model_id']}")["file"]["revisions"][-1]
    assert ("rows.jsonl", b'{"input": "x"}\n') == (
        model["name"],
        project.agent.get_blob(model["content_token"]["sha"]),
    )


def test_a_job_says_which_hosts_it_is_for_and_how_urgent_it_is(
    project: Project, task: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "x"}\n')
    submit = ("submit", "--type", "inference", "--parameters", str(task), "--label", "gpu", "--priority", "7")

    bare = run(project, *submit)
    full = run(project, *submit, "--label", "eu", "--input", str(rows))
    wrong = run(project, *submit, "--priority", "1001")

    jobs = [project.submit.job(made.stdout.strip()) for made in (bare, full)]
    assert [(["gpu"], 7), (["eu", "gpu"], 7)] == [(sorted(job["labels"]), job["priority"]) for job in jobs]
    assert (1, "") == (wrong.returncode, wrong.stdout)
    assert "priority" in wrong.stderr


def test_a_registered_function_works_on_a_file(project: Project, tmp_path: Path) -> None:
    (tmp_path / "part.step").write_bytes(b"\x00\x01")

    made = run(project, "submit", "--type", "convert", "--input", str(tmp_path / "part.step"))
    without = run(project, "submit", "--type", "convert")

    assert "convert" == project.submit.job(made.stdout.strip())["function"]["name"]
    assert (1, "") == (without.returncode, without.stdout)
    assert "--input" in without.stderr


def test_parameters_come_from_standard_input_too(project: Project) -> None:
    made = run(project, "submit", "--type", "judge_scoring", "--parameters", "-", input='{"a": 1}')

    shown = project.submit.read("GET", f"/api/jobs/{made.stdout.strip()}/")
    assert ("judge_scoring", {"a": 1}) == (shown["job_type"], shown["result"]["parameters"])


def test_jobs_are_listed_newest_first_by_status_and_type(project: Project, agent_id: str) -> None:
    waiting, running, canceled = (project.submit.make_job()["id"] for _ in range(3))
    scoring = project.submit.make_job(function="@overmind:judge_scoring")["id"]
    project.agent.walk(running, agent_id, "Validating")
    project.submit.cancel(canceled)

    def listed(*arguments: str) -> list[str]:
        return [job["id"] for job in json.loads(run(project, "list", "--json", *arguments).stdout)]

    assert [scoring, canceled, running, waiting] == listed()
    assert [scoring, canceled] == listed("--limit", "2")
    assert [running] == listed("--status", "running") == listed("--status", "Validating")
    assert [canceled] == listed("--status", "canceled") == listed("--status", "cancelled")
    assert [scoring] == listed("--type", "judge_scoring")
    lines = run(project, "list").stdout.splitlines()
    assert [(scoring, "Pending", "judge_scoring"), (canceled, "Canceled", "inference")] == [
        tuple(line.split()[:3]) for line in lines[:2]
    ]


def test_a_job_is_shown_with_its_outcome_and_files(project: Project, agent_id: str) -> None:
    job_id = project.submit.make_job()["id"]
    finish(project, job_id, agent_id, {"result.json": b"{}"}, {"best_score": 71.5, "label": "\x1b[31mred"})

    told = json.loads(run(project, "show", job_id, "--json").stdout)
    page = run(project, "show", job_id).stdout

    assert (job_id, "Completed", {"best_score": 71.5}) == (told["id"], told["status"], told["scores"])
    assert [("result.json", 2)] == [(file["name"], file["size_bytes"]) for file in told["files"]]
    assert "outcome.best_score          71.5" in page
    assert "\x1b" not in page


def test_a_watched_job_is_told_line_by_line_until_it_ends(project: Project, agent_id: str) -> None:
    job_id = project.submit.make_job()["id"]
    line = {"step": 1, "total_steps": 2, "step_name": "rows"}
    with started(project, "watch", job_id) as watching:
        assert watching.stdout
        lines = [json.loads(watching.stdout.readline())]
        project.agent.walk(job_id, agent_id, "Running")
        project.agent.heartbeat(agent_id, (job_id, 1), progress=line)
        while lines[-1]["progress"] != line:
            lines.append(json.loads(watching.stdout.readline()))
        project.agent.say(job_id, "Uploading", agent_id)
        project.agent.say(job_id, "Completed", agent_id, body={"message": "2 rows"})
        lines += [json.loads(told) for told in watching.communicate(timeout=30)[0].splitlines()]

    assert ("Pending", None) == (lines[0]["status"], lines[0]["progress"])
    assert ("Completed", "2 rows") == (lines[-1]["status"], lines[-1]["message"])
    assert 0 == watching.returncode


def test_a_terminal_sees_a_bar_and_obeys_no_message(project: Project, agent_id: str) -> None:
    job_id = project.submit.make_job()["id"]
    project.agent.walk(job_id, agent_id, "Validating")
    project.agent.say(job_id, "Running", agent_id, body={"message": "[red]\x1b]0;title\x07 row 1"})
    project.agent.heartbeat(agent_id, (job_id, 1), progress={"step": 1, "total_steps": 2, "step_name": "[b]rows"})
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": {"TERM": "xterm", "COLUMNS": "100"}}
    with started(project, "watch", job_id, **streams) as watching:
        os.close(theirs)
        seen = until(ours, b"1/2")
        project.submit.cancel(job_id)
        seen += until(ours, None)
        os.close(ours)
        code = watching.wait(30)

    assert 1 == code
    assert "Running    [red]\ufffd]0;title\ufffd row 1".encode() in seen
    assert b"inference [b]rows" in seen
    assert b"Canceled" in seen


def until(terminal: int, wanted: bytes | None) -> bytes:
    """What is written on a terminal until *wanted* has come, or until nobody writes any more."""
    seen = b""
    while wanted is None or wanted not in seen:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # the last of the other side is gone
            assert wanted is None, seen
            break
    return seen


def test_a_submitted_job_can_be_waited_for(project: Project, task: Path, agent_id: str) -> None:
    with started(project, "submit", "--type", "inference", "--parameters", str(task), "--wait") as waiting:
        job_id = project.agent.next_job(agent_id, wait_s=30)["id"]
        project.agent.say(job_id, "Claimed", agent_id, key="a")
        project.agent.say(job_id, "Failed", agent_id, body={"message": "broken", "detail": {"reason": "crashed"}})
        lines = [json.loads(line) for line in waiting.communicate(timeout=30)[0].splitlines()]

    assert ("Failed", "broken", job_id) == (lines[-1]["status"], lines[-1]["message"], lines[-1]["id"])
    assert 1 == waiting.returncode


def test_a_job_is_canceled_once(project: Project, agent_id: str) -> None:
    job_id, done = project.submit.make_job()["id"], project.submit.make_job()["id"]
    finish(project, done, agent_id, {})

    first = run(project, "cancel", job_id)
    again = run(project, "cancel", job_id)
    late = run(project, "cancel", done)

    assert (0, f"{job_id} Canceled\n") == (first.returncode, first.stdout)
    assert [0, 1] == [again.returncode, late.returncode]
    assert "409" in late.stderr


def test_files_are_downloaded_and_verified(project: Project, agent_id: str, tmp_path: Path) -> None:
    job_id = project.submit.make_job()["id"]
    finish(project, job_id, agent_id, {"outputs.jsonl": b'{"a": 1}\n', "../../evil.sh": b"no", "empty": b""})
    folder = tmp_path / "got"

    got = run(project, "files", job_id, str(folder), "--json")
    again = run(project, "files", job_id, str(folder))
    forced = run(project, "files", job_id, str(folder), "--force")

    assert {"outputs.jsonl": b'{"a": 1}\n', "evil.sh": b"no", "empty": b""} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256 == {file["name"]: file["sha256"] for file in json.loads(got.stdout)}["empty"]
    assert [0, 1, 0] == [got.returncode, again.returncode, forced.returncode]
    assert "--force" in again.stderr
    assert 3 == len(forced.stdout.splitlines())


def test_a_job_without_files_is_told_so(project: Project, tmp_path: Path) -> None:
    job_id = project.submit.make_job()["id"]

    got = run(project, "files", job_id, str(tmp_path / "got"))

    assert (0, "", False) == (got.returncode, got.stdout, (tmp_path / "got").exists())
    assert "the job has no files" in got.stderr


def test_a_file_that_arrives_damaged_is_not_kept(
    project: Project, agent_id: str, tmp_path: Path, plane: Any
) -> None:
    job_id = project.submit.make_job()["id"]
    finish(project, job_id, agent_id, {"result.json": b"whole"})
    (blob,) = [
        path for path in (plane.data / "blobs").rglob("*") if path.is_file() and path.read_bytes() == b"whole"
    ]
    blob.write_bytes(b"wrong")

    got = run(project, "files", job_id, str(tmp_path / "got"))

    assert (1, []) == (got.returncode, list((tmp_path / "got").iterdir()))
    assert "result.json arrived damaged" in got.stderr


REFUSED = [
    (("show", "00000000-0000-4000-8000-000000000000"), 1, "404"),
    (("show", "../x"), 64, "no job id"),
    (("list", "--status", "open"), 64, "a status is one of"),
    (("list", "--limit", "0"), 64, "a number from 1"),
    (("list", "--url", "http://127.0.0.1:9"), 69, "cannot be reached"),
    (("submit", "--type", "inference", "--parameters", "/nothing.json"), 64, "No such file"),
    (("submit", "--type", "inference", "--input", "/nothing.json"), 64, "no such file"),
    (("list", "--token-file", "/nothing"), 78, "No such file"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), REFUSED)
def test_what_goes_wrong_is_said_in_one_line_with_its_code(
    project: Project, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended = run(project, *arguments)

    assert (code, "") == (ended.returncode, ended.stdout)
    assert said in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("raw", ["[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}'])
def test_parameters_that_are_none_are_refused_before_anything_is_made(project: Project, raw: str) -> None:
    ended = run(project, "submit", "--type", "inference", "--parameters", "-", input=raw)

    assert 64 == ended.returncode
    assert 0 == project.submit.read("GET", "/api/v2/jobs")["total"]


def test_credentials_that_are_refused_are_77(project: Project) -> None:
    wrong = run(project, "list", token="ovr_wrong")
    role = run(project, "submit", "--type", "inference", token=project.tokens.agent)

    assert [77, 77] == [wrong.returncode, role.returncode]


def test_without_a_token_nothing_is_sent(project: Project) -> None:
    env = environment(project)
    del env["OVERMIND_API_KEY"]

    ended = subprocess.run(command("list"), capture_output=True, text=True, timeout=30, check=False, env=env)

    assert 78 == ended.returncode
    assert "$OVERMIND_API_KEY" in ended.stderr


def test_help_has_examples_and_loads_nothing_heavy() -> None:
    heavy = ("requests", "rich", "sqlalchemy", "fastapi", "pydantic")
    script = (
        "import sys\nfrom overmind_controlplane.cli import main\n"
        "try:\n    main(['job', 'submit', '--help'])\nfinally:\n"
        f"    sys.stderr.write(repr([name for name in {heavy!r} if name in sys.modules]))"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert (0, "[]") == (ended.returncode, ended.stderr)
    assert "job submit --type inference --parameters task.json --input rows.jsonl --wait" in ended.stdout


def test_a_type_that_no_agent_announces_is_said(project: Project, task: Path) -> None:
    """The job waits all the same: an agent that has it may come."""
    nobody = run(project, "submit", "--type", "inference", "--parameters", str(task))
    project.agent.register("lease", "job_type:inference")

    known = run(project, "submit", "--type", "inference", "--parameters", str(task))
    slip = run(project, "submit", "--type", "judge_scoring", "--parameters", str(task))

    assert (0, 0, 0) == (nobody.returncode, known.returncode, slip.returncode)
    assert ("", "") == (nobody.stderr, known.stderr)  # where there is no agent yet, any type may be right
    assert "no agent of this project announces the type judge_scoring, only inference: the job waits" in slip.stderr


def test_an_executor_of_ones_own_is_known_by_the_name_under_which_it_runs(project: Project, tmp_path: Path) -> None:
    """Without its scope a name is that of a host's function, and such a job would wait for ever."""
    project.agent.register("lease", "job_type:word_count", "job_type:inference")
    (tmp_path / "text.txt").write_text("a b a")

    whole, ours, bare = (
        run(project, "submit", "--type", name, "--input", str(tmp_path / "text.txt"))
        for name in ("@overmind:word_count", "@overmind:inference", "word_count")
    )

    assert (0, "", "") == (whole.returncode, whole.stderr, ours.stderr)
    assert "announces the type word_count, only @overmind:word_count, inference: the job waits" in bare.stderr


def test_what_nobody_reads_to_its_end_is_no_bug(project: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(project, "list", "--json", stdout=writer, stderr=subprocess.PIPE) as listing:
        os.close(writer)
        _, said = listing.communicate(timeout=60)

    assert (141, "") == (listing.returncode, said)


def test_a_job_that_has_ended_shows_no_way_that_is_left(project: Project, agent_id: str) -> None:
    job_id = project.submit.make_job()["id"]
    project.agent.walk(job_id, agent_id, "Running")
    project.agent.heartbeat(agent_id, (job_id, 1), progress={"step": 1, "total_steps": 2, "step_name": "rows"})
    at_work = run(project, "show", job_id)
    project.submit.cancel(job_id)
    ended = run(project, "show", job_id)

    assert "1/2 rows" in at_work.stdout
    assert "1/2 rows" not in ended.stdout


def test_a_model_that_no_agent_announces_is_said(project: Project, tmp_path: Path) -> None:
    project.agent.register("lease", "job_type:inference", "model:fast")
    tasks = {name: tmp_path / f"{name}.json" for name in ("fast", "fsat")}
    for name, path in tasks.items():
        path.write_text(json.dumps({"target": {"kind": "chat", "model": name, "prompt": "{input}"}}))

    known, slip = (run(project, "submit", "--type", "inference", "--parameters", str(tasks[n])) for n in tasks)

    assert (0, 0, "") == (known.returncode, slip.returncode, known.stderr)
    assert (
        "no agent of this project announces the model fsat, only fast: the job waits until one does" in slip.stderr
    )


def test_a_token_that_others_may_read_is_refused(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "submit.token"
    path.write_text(project.tokens.submit)
    path.chmod(0o644)

    open_to_all = run(project, "list", "--token-file", str(path))
    path.chmod(0o600)
    own = run(project, "list", "--token-file", str(path))

    assert (78, 0) == (open_to_all.returncode, own.returncode)
    assert f"run chmod 600 {path}" in open_to_all.stderr


def test_where_a_token_is_missing_the_whole_command_is_named(project: Project) -> None:
    ended = run(project, "list", token=" ")

    assert 78 == ended.returncode
    assert "token create --data DIR --project NAME --role submit" in ended.stderr


def write_pair(folder: Path) -> tuple[Path, Path]:
    """A key to sign with, and the one to check by."""
    made = OKPKey.generate_key("Ed25519")
    private, public = folder / "release.key", folder / "release.pub"
    private.write_bytes(made.as_pem(private=True))
    public.write_bytes(made.as_pem(private=False))
    private.chmod(0o600)
    public.chmod(0o644)
    return private, public


def offered(project: Project, job_id: str) -> tuple[Job, RemoteFile | None]:
    """The job as a host reads it, and the input that it would be given."""
    document = project.agent.job(job_id)
    job = read_job(parse(wire.Job, json.dumps(document).encode()))
    model = project.agent.read("GET", f"/api/v2/models/{document['model_id']}")
    file = read_revision(parse(ModelFile, json.dumps(model).encode()).file.revisions[-1])
    return job, None if (file.sha, file.name) == (job.parameters.sha, job.parameters.name) else file


@pytest.mark.parametrize("named", [None, "2026"])
def test_a_job_is_signed_and_the_control_plane_hands_that_on(
    project: Project, task: Path, tmp_path: Path, named: str | None
) -> None:
    private, public = write_pair(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "x"}\n')
    key = ["--sign-with", str(private), *(["--key-name", named] if named else [])]
    signatures = Signatures("block", {named or "release": public})

    made = [
        run(project, "submit", "--type", "inference", "--parameters", str(task), *key, *more)
        for more in ([], ["--input", str(rows)])
    ]
    jobs = [offered(project, one.stdout.strip()) for one in made]

    assert [0, 0] == [one.returncode for one in made], made
    assert [(project.tokens.project_id, None), (project.tokens.project_id, "rows.jsonl")] == [
        (job.project, file and file.name) for job, file in jobs
    ]
    assert [None, None] == [signatures.admit(job, file, is_begun=False) for job, file in jobs]


def test_other_parameters_are_not_signed_any_more(project: Project, task: Path, tmp_path: Path) -> None:
    private, _ = write_pair(tmp_path)
    job_id = run(
        project, "submit", "--type", "inference", "--parameters", str(task), "--sign-with", str(private)
    ).stdout.strip()
    signed = project.submit.job(job_id)["signature"]

    revised = project.submit.read("PUT", f"/api/v2/jobs/{job_id}", project.submit.upload(b"{}", "parameters.json"))

    assert 2 == signed.count(".")
    assert revised["signature"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--sign-with", "none.key"], 78, "none.key cannot be read: No such file or directory"),
        (["--sign-with", "release.pub"], 78, "release.pub does not hold a private key"),
        (["--sign-with", "bad.key"], 78, "the file holds no key of Ed25519"),
        (
            ["--sign-with", "release.key", "--parameters", "dataset.json"],
            64,
            "dataset_id is no part of what is signed",
        ),
        (["--sign-with", "release.key", "--sign-days", "0"], 64, "a number of days, up to 3650"),
        (["--sign-with", "release.key", "--type", "@acme:x"], 1, "works on a file; name it with --input"),
    ],
)
def test_what_cannot_be_signed_makes_no_job(
    project: Project, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    write_pair(tmp_path)
    (tmp_path / "bad.key").write_text("-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----")
    (tmp_path / "bad.key").chmod(0o600)
    (tmp_path / "dataset.json").write_text('{"dataset_id": "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"}')

    refused = run(project, "submit", "--type", "inference", *arguments, cwd=tmp_path)

    assert (code, "") == (refused.returncode, refused.stdout)
    assert said in refused.stderr
    assert 0 == project.submit.read("GET", "/api/v2/jobs")["total"]


def test_a_signature_that_is_none_is_refused_by_name(project: Project) -> None:
    model_id = project.submit.make_model()["id"]
    body = project.submit.upload(b"{}", "parameters.json")
    path = f"/api/v2/models/{model_id}/jobs?function_name=@overmind:inference"

    answers = [
        project.submit.call("POST", path, body, headers={"Overmind-Signature": told})
        for told in ("no", "a.b.c.d", "a b.c.d", "x" * 8200)
    ]

    assert [422] * 4 == [answer.status_code for answer in answers]
    assert ["header", "Overmind-Signature"] == answers[0].json()["detail"][0]["loc"]
