"""Access relationships: kept, shown, and without power over what a token may do."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import requests
from plane_calls import Project

USER = "someone-else"


def relationship(kind: str, thing_id: str, **fields: Any) -> dict[str, Any]:
    """What is sent and shown."""
    return {
        "subject_type": "user",
        "subject_id": USER,
        "relation": "viewer",
        "resource_type": kind,
        "resource_id": thing_id,
        "subject_info": None,
        **fields,
    }


@pytest.fixture(params=["job", "model", "artifact"])
def thing(request: pytest.FixtureRequest, project: Project) -> tuple[str, str, str]:
    """A thing that can be shared: its kind, its id and its maker."""
    job = project.submit.make_job()
    if request.param == "job":
        return "job", job["id"], job["created_by_id"]
    if request.param == "model":
        return "model", job["model_id"], job["created_by_id"]
    body = project.agent.upload(b"{}", "result.json", (job["file"]["revisions"][-1]["id"],))
    made = project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", body)
    return "artifact", made["id"], made["created_by_id"]


def test_a_relationship_is_made_changed_and_ended(project: Project, thing: tuple[str, str, str]) -> None:
    kind, thing_id, maker = thing
    api, listing = project.submit, f"/api/v2/access/{kind}/{thing_id}"
    path = f"/api/v2/access/user/{USER}/{kind}/{thing_id}"
    owner = relationship(kind, thing_id, subject_id=maker, relation="owner")

    before = api.read("GET", listing)
    made = api.read("POST", "/api/v2/access", relationship(kind, thing_id))
    twice = api.call("POST", "/api/v2/access", relationship(kind, thing_id)).status_code
    changed = api.read("PUT", path, {"relation": "editor"})
    between = api.read("GET", listing)
    removed = api.read("DELETE", path)
    gone = [api.call("DELETE", path).status_code, api.call("PUT", path, {"relation": "owner"}).status_code]

    assert [owner] == before == api.read("GET", listing)
    assert (relationship(kind, thing_id), 409) == (made, twice)
    assert relationship(kind, thing_id, relation="editor") == changed
    assert [owner, changed] == between
    assert ({}, [404, 404]) == (removed, gone)


def test_many_are_made_together_or_not_at_all(project: Project) -> None:
    job_id = project.submit.make_job()["id"]
    nobody = "00000000-0000-4000-8000-000000000000"
    told = [relationship("job", job_id, subject_id=name) for name in ("a", "b")]

    made = project.submit.read("POST", "/api/v2/bulk/access", told)
    refused = project.submit.call(
        "POST", "/api/v2/bulk/access", [relationship("job", job_id), relationship("job", nobody)]
    )
    listed = project.submit.read("GET", f"/api/v2/access/job/{job_id}")

    assert told == made
    assert 404 == refused.status_code
    assert ["a", "b"] == [line["subject_id"] for line in listed[1:]]


@pytest.mark.parametrize("kind", ["job", "model", "artifact"])
def test_each_thing_has_the_older_calls_too(project: Project, kind: str) -> None:
    api = project.submit
    job = api.make_job()
    described = project.agent.upload(b"x", "result.txt", (job["file"]["revisions"][-1]["id"],))
    made_of_it = project.agent.read("POST", f"/api/v2/models/{job['model_id']}/artifacts", described)
    thing_id = {"job": job["id"], "model": job["model_id"], "artifact": made_of_it["id"]}[kind]
    path, told = f"/api/v2/{kind}s/{thing_id}/access", relationship(kind, thing_id)

    made = api.read("PATCH", path, told)
    changed = api.read("PATCH", path, told | {"relation": "editor"}, params={"patch_op": "set"})
    removed = api.read("PATCH", path, told, params={"patch_op": "delete"})
    again = api.read("PATCH", path, told, params={"patch_op": "delete"})

    assert ["viewer", "editor"] == [made[-1]["relation"], changed[-1]["relation"]]
    assert [1, 1, 1] == [len(removed), len(again), len(api.read("GET", path))]


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"relation": "king"}, "relation"),
        ({"subject_type": "group"}, "subject_type"),
        ({"resource_type": "tenant"}, "resource_type"),
        ({"subject_id": ""}, "subject_id"),
        ({"more": 1}, "more"),
    ],
)
def test_a_wrong_relationship_is_422(project: Project, told: dict[str, Any], field: str) -> None:
    body = relationship("job", project.submit.make_job()["id"], **told)

    refused = project.submit.read("POST", "/api/v2/access", body, status=422)

    assert field == refused["detail"][0]["loc"][-1]


def test_a_kind_of_thing_that_is_not_shared_is_404(project: Project) -> None:
    assert 404 == project.submit.call("GET", "/api/v2/access/tenant/x").status_code


def test_an_upload_that_was_broken_off_goes_on_with_the_missing_parts(project: Project) -> None:
    """As an agent does that was restarted between two parts: it knows the upload's id and nothing else."""

    data, salt, path = b"0123456789" * 3, "0" * 32, "/api/v2/tokens/multipart-upload"
    sha = hashlib.sha384(data + salt.encode()).hexdigest()
    told = project.agent.read("POST", path, {"sha": sha, "num_parts": 3})
    first = requests.put(told["upload_urls"]["2"]["url"], data=data[10:20], timeout=10).headers["ETag"]
    query = {"sha": sha, "upload_id": told["upload_id"], "num_parts": 3}

    found = project.agent.read("GET", path, params=query)
    for number, place in found["upload_urls"].items():
        end = int(number) * 10
        requests.put(place["url"], data=data[end - 10 : end], timeout=10)
    whole = project.agent.read("GET", path, params=query)
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in whole["parts"]]
    end_body = {"action": "complete", "sha": sha, "upload_id": told["upload_id"], "completed_parts": parts}
    project.agent.read("PUT", path, end_body)

    assert [{"PartNumber": 2, "ETag": first, "Size": 10}] == found["parts"]
    assert ["1", "3"] == sorted(found["upload_urls"])
    assert {} == whole["upload_urls"]
    assert data == project.agent.get_blob(sha)
    assert 404 == project.agent.call("GET", path, params=query).status_code
