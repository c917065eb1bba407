"""Limits on what is sent: each with its own status, in the shape of the dialect, and nothing applied."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import requests
from plane_calls import Api, Project

from overmind_controlplane.serving.limits import MAX_TOKENS_KNOWN, Buckets
from server import start_control_plane

NESTED = b'{"a":' * 70 + b"1" + b"}" * 70


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_grants_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(10, clock)

    burst = [buckets.take("a") for _ in range(20)]
    beyond = buckets.take("a")
    clock.now += 0.1
    after = [buckets.take("a"), buckets.take("a")]

    assert [0.0] * 20 == burst
    assert 0.1 == pytest.approx(beyond)
    assert [0.0, pytest.approx(0.1)] == after


def test_a_bucket_holds_no_more_than_a_burst() -> None:
    clock = Clock()
    buckets = Buckets(10, clock)
    clock.now += 3600

    granted = list(itertools.takewhile(lambda wait_s: wait_s == 0, (buckets.take("a") for _ in range(100))))

    assert 20 == len(granted)


def test_one_caller_takes_nothing_from_another() -> None:
    buckets = Buckets(1, Clock())

    first = [buckets.take("a") for _ in range(3)]

    assert first[-1] > 0
    assert 0.0 == buckets.take("b")


def test_a_rate_below_one_a_second_still_grants_one() -> None:
    buckets = Buckets(0.1, Clock())

    assert [0.0, pytest.approx(10.0)] == [buckets.take("a"), buckets.take("a")]


def test_callers_beyond_the_latest_are_forgotten() -> None:
    buckets = Buckets(1, Clock())
    used_up = [buckets.take("first") for _ in range(3)]
    for number in range(MAX_TOKENS_KNOWN):
        buckets.take(f"caller {number}")

    assert used_up[-1] > 0
    assert 0.0 == buckets.take("first")


def test_a_token_that_calls_too_fast_is_429_and_others_are_not(tmp_path: Any) -> None:
    with start_control_plane(tmp_path, arguments=("--rate-limit", "2")) as plane:
        project = Project(plane.url, plane.tokens)
        path = f"/api/v2/projects/{plane.tokens.project_id}/prompt-optimization-jobs"

        answers = [project.submit.call("GET", "/api/v2/jobs") for _ in range(20)]
        in_other_shape = project.submit.call("GET", path)
        other = project.agent.call("GET", "/api/v2/jobs").status_code
        free = [requests.get(plane.url + "/health", timeout=10).status_code for _ in range(20)]
        project.close()

    refused = [answer for answer in answers if answer.status_code != 200]
    assert [200] * 4 == [answer.status_code for answer in answers[:4]]
    assert {(429, "rate_limited", "1")} == {
        (one.status_code, one.json()["code"], one.headers["Retry-After"]) for one in refused
    }
    assert ("detail" in refused[0].json(), "message" in in_other_shape.json()) == (True, True)
    assert 200 == other
    assert [200] * 20 == free


def test_no_rate_is_no_limit(tmp_path: Any) -> None:
    with start_control_plane(tmp_path, arguments=("--rate-limit", "0")) as plane:
        api = Api(plane.url, plane.tokens.submit)
        answers = {api.call("GET", "/api/v2/capabilities").status_code for _ in range(50)}
        api.close()

    assert {200} == answers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-More": "x" * 33_000}, 431),
        ({f"X-{number}": "x" for number in range(101)}, 431),
        ({"X-More": "x" * 31_000}, 200),
    ],
)
def test_headers_over_the_limit_are_431(submitter: Api, headers: dict[str, str], status: int) -> None:
    answer = submitter.call("GET", "/api/v2/jobs", headers=headers)

    assert status == answer.status_code
    assert status == 200 or list(answer.json()) == ["detail"]


@pytest.mark.parametrize("path", ["/api/v2/jobs?status_name=" + "x" * 8200, "/api/v2/jobs/" + "x" * 8200])
def test_an_address_over_the_limit_is_414(submitter: Api, path: str) -> None:
    answer = submitter.call("GET", path)

    assert (414, ["detail"]) == (answer.status_code, list(answer.json()))


@pytest.mark.parametrize(
    "path", ["/api/v2/jobs/%00", "/api/v2/jobs?model_id=a%00", "/api/jobs/?search=%00", "/api/agents/%00/"]
)
def test_a_nul_in_an_address_is_400(submitter: Api, path: str) -> None:
    assert 400 == submitter.call("GET", path).status_code


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("POST", "/api/v2/agents", 422),
        ("POST", "/api/jobs/", 400),
        ("POST", "/api/v2/projects/{project}/prompt-optimization-jobs", 400),
    ],
)
def test_nesting_over_the_limit_is_refused_in_every_dialect(
    project: Project, verb: str, path: str, status: int
) -> None:
    answer = project.admin.call(verb, path.format(project=project.tokens.project_id), NESTED)

    assert status == answer.status_code
    assert "nested deeper than 64 levels" in answer.text


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/v2/projects/{project}/prompt-optimization-jobs"])
def test_a_body_over_the_limit_is_413_in_every_dialect(project: Project, path: str) -> None:
    told = path.format(project=project.tokens.project_id)

    answer = project.submit.call("POST", told, b'{"x":"' + b"x" * (8 << 20) + b'"}')

    assert (413, ["detail"] if "jobs/" in path else ["message"]) == (answer.status_code, list(answer.json()))


def test_a_name_over_the_limit_is_422(submitter: Api) -> None:
    body = submitter.upload(b"x", "rows.json")

    refused = submitter.read("POST", "/api/v2/models", body | {"name": "x" * 256}, status=422)

    assert ["body", "name"] == refused["detail"][0]["loc"]


@pytest.mark.parametrize("field", ["name", "description", "mime"])
def test_a_nul_in_a_name_is_422(submitter: Api, field: str) -> None:
    body = submitter.upload(b"x", "rows.json")

    refused = submitter.read("POST", "/api/v2/models", body | {field: "a\0b"}, status=422)

    assert ["body", field] == refused["detail"][0]["loc"]


def test_a_nul_in_a_message_is_kept_as_a_sign(project: Project) -> None:
    """What a program printed as it died is worth more than its spelling."""
    job_id = project.submit.make_job()["id"]
    agent_id = project.agent.register()
    project.agent.say(job_id, "Claimed", agent_id)

    project.agent.say(job_id, "Failed", agent_id, body={"message": "a\0b", "detail": {"reason": "crashed"}})

    assert "a\ufffdb" == project.submit.job(job_id)["status_history"][-1]["message"]


@pytest.mark.parametrize("field", ["best_agent_code", "report_markdown"])
def test_a_text_of_an_outcome_with_a_nul_is_kept_without_it(project: Project, field: str) -> None:
    """A prompt may have one: its job's last word would be refused again and again."""
    job_id, agent_id = project.submit.make_job()["id"], project.agent.register()
    project.agent.say(job_id, "Claimed", agent_id)

    answer = project.agent.say(job_id, "Validating", agent_id, body={"detail": {"outcome": {field: "a\0b"}}})

    assert 200 == answer.status_code
    assert "a\ufffdb" == project.submit.read("GET", f"/api/jobs/{job_id}/")[field]
