"""How the agent-pull dialect says no, and who may do what."""

from __future__ import annotations

import pytest
import requests
from plane_calls import Api, Project

from server import ControlPlaneProcess

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic dXNlcg=="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ovr_wrong"},
        {"Authorization": "Bearer " + "x" * 8000},
        {"X-Api-Key": "ovr_wrong"},
    ],
)
def test_a_call_without_a_good_token_is_401_with_a_detail(
    plane: ControlPlaneProcess, headers: dict[str, str]
) -> None:
    answers = [
        requests.get(plane.url + path, headers=headers, timeout=10) for path in ("/api/v2/jobs", "/api/jobs/")
    ]

    assert [401, 401] == [answer.status_code for answer in answers]
    assert [["detail"], ["detail"]] == [list(answer.json()) for answer in answers]


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Api-Key {}"])
def test_a_token_comes_in_any_of_three_ways(project: Project, form: str) -> None:
    headers = {"Authorization": form.format(project.tokens.submit)}

    by_scheme = requests.get(project.url + "/api/auth/me/", headers=headers, timeout=10)
    by_key = requests.get(project.url + "/api/auth/me/", headers={"X-Api-Key": project.tokens.submit}, timeout=10)

    assert (200, 200) == (by_scheme.status_code, by_key.status_code)
    assert by_scheme.json() == by_key.json()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "json_invalid"),
        (b"{", "json_invalid"),
        (b'{"agent_version": NaN, "host_os": "x"}', "json_invalid"),
        (b'{"agent_version": "1", "agent_version": "2", "host_os": "x"}', "json_invalid"),
        (b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}", "json_invalid"),
        (b'{"agent_version": 1, "host_os": "x"}', "string_type"),
        (b'{"agent_version": "1"}', "missing"),
        (b'{"agent_version": "1", "host_os": "x", "status": "Idle"}', "extra_forbidden"),
        (b"[]", "model_type"),
    ],
)
def test_a_wrong_body_is_422_with_a_list(agent: Api, raw: bytes, kind: str) -> None:
    answer = agent.call("POST", "/api/v2/agents", raw)

    (problem,) = answer.json()["detail"]
    assert 422 == answer.status_code
    assert {"loc", "msg", "type"} == set(problem)
    assert (kind, "body") == (problem["type"], problem["loc"][0])


def test_a_refusal_does_not_repeat_what_was_sent(agent: Api) -> None:
    answer = agent.call("POST", "/api/v2/agents", {"agent_version": {"secret": "hunter2"}, "host_os": "x"})

    assert 422 == answer.status_code
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("path", "loc"),
    [
        ("/api/v2/jobs?page=0", ["query", "page"]),
        ("/api/v2/jobs?size=101", ["query", "size"]),
        ("/api/v2/jobs?page=x", ["query", "page"]),
        ("/api/v2/jobs?status_name=pending", ["query", "status_name"]),
        ("/api/v2/jobs?archive_status=some", ["query", "archive_status"]),
        ("/api/v2/tokens/xyz/upload-url", ["path", "sha"]),
        ("/api/v2/tokens/..%2f..%2fetc/download-url", None),
    ],
)
def test_a_wrong_query_names_itself(submitter: Api, path: str, loc: list[str] | None) -> None:
    answer = submitter.call("GET", path)

    if loc is None:
        assert 404 == answer.status_code
    else:
        assert 422 == answer.status_code
        assert loc == answer.json()["detail"][0]["loc"]


def test_a_body_over_the_limit_is_413(agent: Api) -> None:
    answer = agent.call("POST", "/api/v2/agents", b" " * (4 << 20) + b"{}")

    assert 413 == answer.status_code
    assert ["detail"] == list(answer.json())


def test_a_foreign_host_is_421(plane: ControlPlaneProcess) -> None:
    """A page in a browser of this machine may point a name of its own at 127.0.0.1."""
    port = plane.url.rpartition(":")[2]
    hosts = {"evil.example": 421, f"evil.example:{port}": 421, f"localhost:{port}": 200, "127.0.0.1": 200}

    answers = {
        host: requests.get(plane.url + "/health", headers={"Host": host}, timeout=10).status_code for host in hosts
    }

    assert hosts == answers


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/nothing", "/api/nothing/"])
def test_an_unknown_path_is_404_with_a_detail(submitter: Api, path: str) -> None:
    assert {"detail": "Not Found"} == submitter.read("GET", path, status=404)


def test_a_revision_whose_blob_is_missing_is_422(submitter: Api) -> None:
    body = submitter.upload(b"data", "rows.json")
    body["content_token"]["sha"] = "0" * 96

    answer = submitter.call("POST", "/api/v2/models", body)

    assert 422 == answer.status_code
    assert ["body", "content_token", "sha"] == answer.json()["detail"][0]["loc"]


def test_bytes_that_are_not_what_they_say_can_be_uploaded_again(submitter: Api) -> None:
    body = submitter.upload(b"right", "rows.json")
    other = submitter.upload(b"other", "rows.json")
    wrong = body | {"content_token": other["content_token"] | {"salt": "0" * 32}}

    answer = submitter.call("POST", "/api/v2/models", wrong)
    again = submitter.call("GET", f"/api/v2/tokens/{other['content_token']['sha']}/upload-url")

    assert 422 == answer.status_code
    assert 200 == again.status_code


def test_a_size_that_is_not_right_is_422(submitter: Api) -> None:
    answer = submitter.call("POST", "/api/v2/models", submitter.upload(b"data", "rows.json") | {"size": 5})

    assert (422, ["body", "size"]) == (answer.status_code, answer.json()["detail"][0]["loc"])


def test_a_source_that_is_not_there_is_422(submitter: Api) -> None:
    answer = submitter.call("POST", "/api/v2/models", submitter.upload(b"data", "rows.json", (NOBODY,)))

    assert 422 == answer.status_code
    assert ["body", "sources", 0, "revision_id"] == answer.json()["detail"][0]["loc"]
