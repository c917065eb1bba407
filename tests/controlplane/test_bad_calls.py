"""Calls that no client of ours makes: each is refused in its own words, and nothing is applied."""

from __future__ import annotations

import gzip
import socket
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from plane_calls import Api, Project
from test_dialects import root

from server import ControlPlaneProcess

WAIT_S = 10.0
AGENT = b'{"agent_version": "1", "host_os": %b}'


def nested(levels: int) -> bytes:
    return AGENT % (b"[" * levels + b"]" * levels)


BODIES: dict[str, bytes] = {
    "an integer beyond 64 bits": AGENT % b"9223372036854775808",
    "400 digits": AGENT % (b"1" + b"0" * 400),
    "5,000 digits": AGENT % (b"9" * 5000),
    "NaN": AGENT % b"NaN",
    "Infinity": AGENT % b"-Infinity",
    "1e999": AGENT % b"1e999",
    "true for a text": AGENT % b"true",
    "a number for a text": AGENT % b"12",
    "1,000 levels": nested(1_000),
    "100,000 levels": nested(100_000),
    "a key twice": AGENT % b'"x", "host_os": "y"',
    "half a surrogate pair": AGENT % rb'"\ud800"',
    "no UTF-8": AGENT % b'"\xff\xfe"',
    "UTF-16": (AGENT % b'"x"').decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + AGENT % b'"x"',
    "gzip": gzip.compress(AGENT % b'"x"'),
    "a NUL in a name": AGENT % rb'"a\u0000b"',
    "a form": b"agent_version=1&host_os=x",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_readers_could_take_differently_is_422(agent: Api, name: str) -> None:
    before = agent.read("GET", "/api/v2/agents")["total"]

    answer = agent.call("POST", "/api/v2/agents", BODIES[name])

    assert 422 == answer.status_code, answer.text
    assert {"loc", "msg", "type"} == set(answer.json()["detail"][0])
    assert before == agent.read("GET", "/api/v2/agents")["total"]


@pytest.mark.parametrize("name", ["NaN", "a key twice", "100,000 levels", "half a surrogate pair", "UTF-16"])
@pytest.mark.parametrize("path", ["/api/jobs/", "{root}"], ids=["Overmind Lab", "prompt optimisation"])
def test_the_other_dialects_refuse_it_in_their_own_shape(project: Project, path: str, name: str) -> None:
    answer = project.submit.call("POST", path.format(root=root(project)), BODIES[name])

    assert (400, ["detail" if path == "/api/jobs/" else "message"]) == (answer.status_code, list(answer.json()))


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/json; charset=utf-16", "a/b/c", ""])
def test_what_a_body_is_called_decides_nothing(agent: Api, kind: str) -> None:
    """It is read as JSON in UTF-8, whatever it says that it is: there is no second way to read it."""
    good = agent.call("POST", "/api/v2/agents", AGENT % b'"x"', headers={"Content-Type": kind})
    bad = agent.call("POST", "/api/v2/agents", BODIES["UTF-16"], headers={"Content-Type": kind})

    assert (200, 422) == (good.status_code, bad.status_code)


def test_a_body_that_is_announced_too_long_is_413_before_any_of_it_is_sent(plane: ControlPlaneProcess) -> None:
    head = (
        "POST /api/v2/agents HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000000\r\n"
        f"Expect: 100-continue\r\nAuthorization: Bearer {plane.agent_token}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", int(plane.url.rpartition(":")[2])), timeout=WAIT_S) as connection:
        connection.sendall(head.encode())
        heard = connection.recv(65_536)

    assert heard.startswith(b"HTTP/1.1 413 "), heard


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer \xe4\xf6\xfc"},
        {"Authorization": "Bearer a b"},
        {"Authorization": "bearer\tovr_x"},
        {"X-Api-Key": ""},
        {"Authorization": "Bearer " + "x" * 10_000},
        {"Authorization": "Bearer ' OR 1=1 --"},
    ],
    ids=["not ASCII", "two words", "a tab", "empty", "10,000 letters", "SQL"],
)
def test_a_token_that_can_be_none_is_401_as_one_that_is_unknown(
    plane: ControlPlaneProcess, headers: dict[str, str]
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = requests.get(f"{plane.url}/api/v2/jobs", headers=raw, timeout=WAIT_S)

    assert (401, ["detail"], "Bearer") == (
        answer.status_code,
        list(answer.json()),
        answer.headers["WWW-Authenticate"],
    )


SQL = ("' OR '1'='1", "1; DROP TABLE jobs", "%' --", "_", "%", "\\", '"', "x') UNION SELECT sha256 FROM tokens --")
ASKED: dict[str, Callable[[str], dict[str, str]]] = {
    "search": lambda text: {"search": text},
    "prompt_slug": lambda text: {"prompt_slug": text},
    "analyzer_model": lambda text: {"analyzer_model": text},
}


@pytest.mark.parametrize("text", SQL)
@pytest.mark.parametrize("field", ASKED)
def test_sql_in_a_filter_is_a_text_like_any_other(project: Project, field: str, text: str) -> None:
    body = {"job_type": "inference", "status": "pending", "prompt_slug": "a", "analyzer_model": "b"}
    for more in ({}, {"prompt_slug": text, "analyzer_model": text}):
        project.submit.read("POST", "/api/jobs/", {**body, **more}, status=201)

    found = project.submit.read("GET", "/api/jobs/", params=ASKED[field](text))

    assert [text] == [job["prompt_slug"] for job in found["results"]]
    assert 2 == project.submit.read("GET", "/api/jobs/")["count"]


@pytest.mark.parametrize("text", SQL)
@pytest.mark.parametrize(
    ("path", "field", "status"),
    [
        ("/api/jobs/", "ordering", 400),
        ("/api/jobs/", "status", 400),
        ("/api/v2/jobs", "status_name", 422),
        ("/api/v2/jobs", "archive_status", 422),
    ],
)
def test_sql_where_a_word_of_a_list_belongs_is_refused(
    submitter: Api, path: str, field: str, status: int, text: str
) -> None:
    assert status == submitter.call("GET", path, params={field: text}).status_code


@pytest.mark.parametrize("page", ["-1", "0", "9999999999", "1.5", "x", "' OR 1=1"])
@pytest.mark.parametrize(
    ("path", "field", "refused"),
    [
        ("/api/v2/jobs", "page", {422}),
        ("/api/v2/jobs", "size", {422}),
        ("/api/v2/agents", "page", {422}),
        ("/api/jobs/", "page", {400, 404}),
    ],
)
def test_a_page_that_there_cannot_be_is_refused(
    submitter: Api, path: str, field: str, page: str, refused: set[int]
) -> None:
    assert submitter.call("GET", path, params={field: page}).status_code in refused


def test_files_whose_names_look_alike_are_both_kept(project: Project) -> None:
    """A name is data: the same letters composed in another way, or in capitals, are another name."""
    job = project.submit.make_job()
    project.agent.say(job["id"], "Claimed", project.agent.register("lease"), key="a")
    names = ["é.txt", unicodedata.normalize("NFD", "é.txt"), "a.txt", "A.txt", "\u202etxt.exe", "😀", "x" * 255]
    source = (job["file"]["revisions"][-1]["id"],)

    for name in names:
        body = project.agent.upload(name.encode(), name, source)
        project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", body)

    kept = project.submit.read("GET", f"/api/v2/models/{job['model_id']}/artifacts")["items"]
    revisions = [artifact["file"]["revisions"][-1] for artifact in kept]
    assert names == [revision["name"] for revision in revisions]
    assert [name.encode() for name in names] == [
        project.submit.get_blob(revision["content_token"]["sha"]) for revision in revisions
    ]


def test_a_key_that_is_under_way_twice_makes_one_thing(project: Project) -> None:
    """
    Each call has the same answer, or 503: repeat it. A 409 would tell an agent that the job is somebody else's.
    """
    job = project.submit.make_job()
    project.agent.say(job["id"], "Claimed", project.agent.register("lease"), key="a")
    body = project.agent.upload(b"{}", "result.json", (job["file"]["revisions"][-1]["id"],))
    path = f"/api/v2/models/{job['model_id']}/artifacts"
    headers = {"Idempotency-Key": "upload-1", "Overmind-Attempt": "1"}
    callers = [Api(project.url, project.tokens.agent) for _ in range(8)]

    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(lambda api: api.call("POST", path, body, headers=headers), callers))
    repeated = project.agent.read("POST", path, body, headers=headers)["id"]
    for api in callers:
        api.close()

    assert {200, 503} >= {answer.status_code for answer in answers}
    assert {repeated} == {answer.json()["id"] for answer in answers if answer.status_code == 200}
    assert [repeated] == [made["id"] for made in project.agent.read("GET", path)["items"]]


def begun(project: Project) -> tuple[dict[str, Any], str]:
    """A job that somebody checks, and whose it is."""
    job, agent_id = project.submit.make_job(), project.agent.register("lease", "fence")
    assert 200 == project.agent.say(job["id"], "Claimed", agent_id, key="a").status_code
    assert 200 == project.agent.say(job["id"], "Validating", agent_id, attempt=1, sequence=1).status_code
    return job, agent_id


def second_word(project: Project, job: dict[str, Any], status: str, *keys: str) -> dict[str, Any]:
    """About that job, with a file under each of these keys."""
    made = project.agent.upload(b"{}", "result.json", (job["file"]["revisions"][-1]["id"],))
    word = {"job_id": job["id"], "attempt": 1, "sequence": 2, "status_name": status}
    return {**word, "artifacts": [{**made, "key": key} for key in keys]}


def report(project: Project, agent_id: str, word: dict[str, Any]) -> dict[str, Any]:
    """What became of it."""
    told = {"reports": [word]}
    answer = project.agent.read("POST", f"/api/v2/agents/{agent_id}/reports", told)
    (heard,) = answer["reports"]
    return dict(heard)


def test_a_word_with_two_files_under_one_key_is_refused_and_stops_nothing(project: Project) -> None:
    job, agent_id = begun(project)

    heard = report(project, agent_id, second_word(project, job, "Running", "same", "same"))

    assert 422 == heard["http_status"]
    assert ["body", "reports", 0, "artifacts"] == heard["error"]["detail"][0]["loc"]
    good = second_word(project, job, "Running", "one", "other")
    assert 200 == report(project, agent_id, good)["http_status"]


def test_what_comes_with_the_word_that_a_job_was_canceled_is_kept_once(project: Project) -> None:
    job, agent_id = begun(project)
    project.submit.cancel(job["id"])

    word = second_word(project, job, "Canceled", "partial")
    heard = [report(project, agent_id, word) for _ in range(2)]

    assert [200, 200] == [one["http_status"] for one in heard]
    kept = project.submit.read("GET", f"/api/v2/models/{job['model_id']}/artifacts")["items"]
    assert ["result.json"] == [made["file"]["revisions"][-1]["name"] for made in kept]


def test_a_revision_of_more_sources_than_anything_has_is_refused_before_they_are_looked_up(
    project: Project,
) -> None:
    """Each is a question to the database, asked while nobody else can write."""
    job, _ = begun(project)
    path, source = f"/api/v2/models/{job['model_id']}/artifacts", job["file"]["revisions"][-1]["id"]

    most = project.agent.call("POST", path, project.agent.upload(b"{}", "a.json", (source,) * 100))
    more = project.agent.call("POST", path, project.agent.upload(b"{}", "b.json", (source,) * 101))

    assert [200, 422] == [most.status_code, more.status_code]
    assert ["body", "sources"] == more.json()["detail"][0]["loc"]


def test_a_key_of_another_project_opens_nothing(project: Project, plane: ControlPlaneProcess) -> None:
    other = Project(plane.url, plane.new_project())
    made: list[dict[str, Any]] = []
    for one in (project, other):
        job = one.submit.make_job()
        made.append(one.agent.say(job["id"], "Claimed", one.agent.register("lease"), key="the-same").json())
    other.close()

    assert [1, 1] == [job["attempt"] for job in made]
    assert made[0]["id"] != made[1]["id"]
