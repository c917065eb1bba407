"""Bytes: blobs and their addresses, parts of large ones, logs of jobs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from plane_calls import Api, Project, revision

from overmind_controlplane.refusals import Forbidden
from overmind_controlplane.storage.blobs import Signer
from server import ControlPlaneProcess, start_control_plane

SALT = "0" * 32


def sha_of(data: bytes) -> str:
    """The name of a blob."""
    return hashlib.sha384(data + SALT.encode()).hexdigest()


def address(api: Api, sha: str, kind: str = "upload") -> str:
    """Where the blob goes, or comes from."""
    url: str = api.read("GET", f"/api/v2/tokens/{sha}/{kind}-url")["url"]
    return url


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3 << 20)])
def test_a_blob_comes_back_as_it_was(submitter: Api, data: bytes) -> None:
    sha = submitter.put_blob(data, SALT)

    assert data == submitter.get_blob(sha)


def test_an_address_is_absolute_and_says_when_it_ends(submitter: Api) -> None:
    told = submitter.read("GET", f"/api/v2/tokens/{'a' * 96}/upload-url")

    assert told["url"].startswith(submitter.url)
    assert told["expires"].endswith("Z")


def test_a_blob_that_is_there_needs_no_upload(submitter: Api) -> None:
    sha = submitter.put_blob(b"once", SALT)

    answer = submitter.call("GET", f"/api/v2/tokens/{sha}/upload-url")

    assert (409, "sha_exists") == (answer.status_code, answer.json()["code"])


def test_a_blob_that_is_not_there_has_no_address(submitter: Api) -> None:
    assert 404 == submitter.call("GET", f"/api/v2/tokens/{'b' * 96}/download-url").status_code


def test_an_address_is_good_for_its_own_blob_and_verb(submitter: Api) -> None:
    url = address(submitter, sha_of(b"mine"))
    other = url.replace(sha_of(b"mine"), "c" * 96)
    project = parse_qs(urlsplit(url).query)["project"][0]

    answers = {
        "other blob": requests.put(other, data=b"x", timeout=10).status_code,
        "other verb": requests.get(url, timeout=10).status_code,
        "other project": requests.put(url.replace(project, "0" * 36), data=b"x", timeout=10).status_code,
        "later": requests.put(url.replace("expires=1", "expires=9"), data=b"x", timeout=10).status_code,
        "no query": requests.put(url.partition("?")[0], data=b"x", timeout=10).status_code,
        "itself": requests.put(url, data=b"mine", timeout=10).status_code,
    }

    assert {**dict.fromkeys(answers, 403), "itself": 200} == answers


def test_an_address_ends(tmp_path: Any) -> None:
    signer = Signer(tmp_path / "key")
    query, _ = signer.sign("GET", "project", "sha")
    past = {**query, "expires": "1000"}
    past["signature"] = signer._signature("GET", "sha", past)

    signer.check("GET", "sha", query)
    with pytest.raises(Forbidden, match="expired"):
        signer.check("GET", "sha", past)


def test_a_blob_that_ends_early_is_not_kept(submitter: Api) -> None:
    sha = sha_of(b"whole")
    parts = urlsplit(address(submitter, sha))
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.putrequest("PUT", f"{parts.path}?{parts.query}")
    connection.putheader("Content-Length", "5")
    connection.endheaders(b"who")
    connection.close()

    assert 404 == submitter.call("GET", f"/api/v2/tokens/{sha}/download-url").status_code
    assert 200 == submitter.call("GET", f"/api/v2/tokens/{sha}/upload-url").status_code


def digest_of(data: bytes) -> dict[str, str]:
    """The header that tells the SHA-256 of *data*."""
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"}


@pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])
def test_a_blob_that_does_not_have_its_digest_is_not_kept(submitter: Api, *, in_parts: bool) -> None:
    """The same address takes it when it comes as it was sent."""
    data = b"in parts" if in_parts else b"whole and checked"
    sha = sha_of(data)
    begun = submitter.read("POST", "/api/v2/tokens/multipart-upload", {"sha": sha, "num_parts": 1})
    url = begun["upload_urls"]["1"]["url"] if in_parts else address(submitter, sha)
    bad = (digest_of(b"other"), {"Content-Digest": "sha-256=:?:"})
    good = ({"Content-Digest": "md5=:AAAA:"}, digest_of(data))

    refused = [requests.put(url, data=data, headers=told, timeout=10) for told in bad]
    query = {"sha": sha, "upload_id": begun["upload_id"]}
    parts = submitter.read("GET", "/api/v2/tokens/multipart-upload", params=query)["parts"]
    is_there = submitter.call("GET", f"/api/v2/tokens/{sha}/download-url").status_code == 200
    taken = [requests.put(url, data=data, headers=told, timeout=10) for told in good]

    assert [412, 422, 200, 200] == [answer.status_code for answer in (*refused, *taken)]
    assert "digest_mismatch" == refused[0].json()["code"]
    assert ([], False) == (parts, is_there)


def test_a_blob_that_a_revision_names_cannot_be_removed_or_replaced(project: Project) -> None:
    """Whoever knows its name might else name it with another salt, or use an address that was given before."""
    data, api = os.urandom(16), project.agent
    sha = sha_of(data)
    kept = address(api, sha)
    begun = api.read("POST", "/api/v2/tokens/multipart-upload", {"sha": sha, "num_parts": 1})
    tag = requests.put(begun["upload_urls"]["1"]["url"], data=b"lies", timeout=10).headers["ETag"]
    api.put_blob(data, SALT)
    good, lie = (revision("r.json", len(data), [sha, sha], salt) for salt in (SALT, "1" * 32))
    path = f"/api/v2/models/{project.submit.make_model()['id']}/artifacts"
    api.read("POST", path, good)
    end = {"action": "complete", "sha": sha, "upload_id": begun["upload_id"]}
    parts = [{"ETag": tag, "PartNumber": 1}]

    refused = api.call("POST", path, lie)
    replaced = requests.put(kept, data=b"lies", timeout=10)
    put_together = api.call("PUT", "/api/v2/tokens/multipart-upload", {**end, "completed_parts": parts})

    assert [422, 200, 200] == [one.status_code for one in (refused, replaced, put_together)]
    assert data == api.get_blob(sha)


def test_an_enclosed_blob_has_its_digest_with_the_salts_of_both_tokens(project: Project) -> None:
    data = os.urandom(16)
    sha = sha_of(data)
    lie = revision("r.json", len(data), [sha, sha], "1" * 32)
    lie["properties_token"]["salt"] = SALT
    lie["blobs"] = {sha: base64.b64encode(data).decode()}

    answer = project.agent.call("POST", f"/api/v2/models/{project.submit.make_model()['id']}/artifacts", lie)

    assert (422, ["body", "blobs", sha]) == (answer.status_code, answer.json()["detail"][0]["loc"])


def test_an_enclosed_blob_takes_the_place_of_other_bytes_under_its_name(project: Project) -> None:
    """Which were sent to an address for it: they were not looked at when they came."""
    data, api = os.urandom(16), project.agent
    sha = sha_of(data)
    assert requests.put(address(api, sha), data=b"other", timeout=10).ok
    told = revision("r.json", len(data), [sha, sha], SALT)
    told["blobs"] = {sha: base64.b64encode(data).decode()}

    api.read("POST", f"/api/v2/models/{project.submit.make_model()['id']}/artifacts", told)

    assert data == api.get_blob(sha)


def test_a_blob_over_the_limit_is_413(tmp_path: Any) -> None:
    with start_control_plane(tmp_path, arguments=("--max-blob-bytes", "10")) as plane:
        api = Api(plane.url, plane.submit_token)
        url = address(api, sha_of(b"x"))

        answers = [requests.put(url, data=b"x" * size, timeout=10).status_code for size in (11, 10)]
        api.close()

    assert [413, 200] == answers


def test_a_blob_is_data_to_a_browser(submitter: Api) -> None:
    sha = submitter.put_blob(b"<script>alert(1)</script>", SALT)

    answer = requests.get(address(submitter, sha, "download"), timeout=10)

    assert "application/octet-stream" == answer.headers["Content-Type"]
    assert "nosniff" == answer.headers["X-Content-Type-Options"]
    assert "sandbox; default-src 'none'" == answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_a_part_of_a_blob_can_be_asked_for(submitter: Api) -> None:
    sha = submitter.put_blob(b"0123456789", SALT)

    answer = requests.get(address(submitter, sha, "download"), headers={"Range": "bytes=2-4"}, timeout=10)

    assert (206, b"234") == (answer.status_code, answer.content)


def begin(api: Api, data: bytes) -> tuple[str, dict[str, Any]]:
    """Upload *data* in three parts; its sha, and the body that completes it."""
    sha, size = sha_of(data), len(data) // 3 + 1
    told = api.read("POST", "/api/v2/tokens/multipart-upload", {"sha": sha, "num_parts": 3})
    tags = []
    for number, place in told["upload_urls"].items():
        part = data[(int(number) - 1) * size : int(number) * size]
        answer = requests.put(place["url"], data=part, timeout=10)
        tags.append({"ETag": answer.headers["ETag"].strip('"'), "PartNumber": int(number)})
    return sha, {"action": "complete", "sha": sha, "upload_id": told["upload_id"], "completed_parts": tags}


def test_a_blob_can_come_in_parts(submitter: Api) -> None:
    data = os.urandom(100_000)
    sha, end = begin(submitter, data)

    submitter.read("PUT", "/api/v2/tokens/multipart-upload", end)

    assert data == submitter.get_blob(sha)
    assert 404 == submitter.call("PUT", "/api/v2/tokens/multipart-upload", end).status_code


def test_parts_that_differ_make_no_blob(submitter: Api) -> None:
    sha, end = begin(submitter, b"abcdef")
    end["completed_parts"][1]["ETag"] = "0" * 64

    answer = submitter.call("PUT", "/api/v2/tokens/multipart-upload", end)

    assert 422 == answer.status_code
    assert 404 == submitter.call("GET", f"/api/v2/tokens/{sha}/download-url").status_code


def test_parts_can_be_thrown_away(submitter: Api) -> None:
    _, end = begin(submitter, b"abcdef")

    submitter.read("PUT", "/api/v2/tokens/multipart-upload", end | {"action": "cancel", "completed_parts": None})

    assert 404 == submitter.call("PUT", "/api/v2/tokens/multipart-upload", end).status_code


# -------------------------------------------------------------------------------------------------- logs


@pytest.fixture
def held(project: Project) -> str:
    """The id of a job in its first attempt."""
    job_id: str = project.submit.make_job()["id"]
    project.agent.say(job_id, "Claimed", project.agent.register("lease"), key="a")
    return job_id


def append(project: Project, job_id: str, offset: int, data: bytes, **headers: str) -> requests.Response:
    """Append to the job's log."""
    told = {"Overmind-Attempt": "1", "Content-Type": "application/octet-stream"} | headers
    return project.agent.call("PUT", f"/api/v2/jobs/{job_id}/logs?offset={offset}", data, headers=told)


def test_a_log_grows_at_its_end(project: Project, held: str) -> None:
    first = append(project, held, 0, b"one\n")
    second = append(project, held, 4, gzip.compress(b"two\n"), **{"Content-Encoding": "gzip"})

    log = project.submit.call("GET", f"/api/v2/jobs/{held}/logs")
    part = project.submit.call("GET", f"/api/v2/jobs/{held}/logs", headers={"Range": "bytes=4-"})

    assert ({"offset": 4}, {"offset": 8}) == (first.json(), second.json())
    assert b"one\ntwo\n" == log.content
    assert (206, b"two\n") == (part.status_code, part.content)


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_a_wrong_offset_is_told_the_right_one(project: Project, held: str, offset: int) -> None:
    append(project, held, 0, b"one\n")

    answer = append(project, held, offset, b"x")

    assert (409, "wrong_offset", 4) == (answer.status_code, answer.json()["code"], answer.json()["offset"])


def test_a_log_without_a_line_is_empty(project: Project, held: str) -> None:
    log = project.submit.call("GET", f"/api/v2/jobs/{held}/logs")

    assert (200, b"") == (log.status_code, log.content)
    assert {"offset": 0} == append(project, held, 0, b"").json()


def test_a_log_body_has_its_limits(project: Project, held: str) -> None:
    answers = {
        "too long": append(project, held, 0, b"x" * ((1 << 20) + 1)).status_code,
        "a bomb": append(
            project, held, 0, gzip.compress(b"x" * (2 << 20)), **{"Content-Encoding": "gzip"}
        ).status_code,
        "not gzip": append(project, held, 0, b"plain", **{"Content-Encoding": "gzip"}).status_code,
        "unknown": append(project, held, 0, b"plain", **{"Content-Encoding": "br"}).status_code,
        "the most": append(project, held, 0, b"x" * (1 << 20)).status_code,
    }

    assert {"too long": 413, "a bomb": 413, "not gzip": 422, "unknown": 400, "the most": 200} == answers


def test_nothing_but_one_line_comes_out_of_the_server(plane: ControlPlaneProcess) -> None:
    """Its log is on standard error, in JSON; a bug would be there with its traceback."""
    assert "request.failed" not in plane.log
