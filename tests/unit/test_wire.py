"""How answers are read: what fits, what does not, and that the message says where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

import wire_samples as sample
from overmind_agent import wire
from overmind_agent.errors import BrokenJob, ProtocolError
from overmind_agent.jobs import Job, NoJob, RemoteFile
from overmind_agent.lifecycle import Status

FILE = RemoteFile("parameters.json", sample.SHA, sample.SALT, 18, sample.REVISION_ID)


def without(document: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """*document* without what is at *path*."""
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return document


def changed(document: dict[str, Any], value: Any, *path: str | int) -> dict[str, Any]:
    """*document* with *value* at *path*."""
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


def refused(raw: bytes) -> str:
    """Why *raw* is not an answer to a poll."""
    with pytest.raises(ProtocolError) as caught:
        wire.parse_next_job(raw)
    return str(caught.value)


# ------------------------------------------------------------------------------------ the poll's union


def test_a_job_is_a_job() -> None:
    found = wire.parse_next_job(sample.encode(sample.job("Pending")))

    assert found == Job(
        id=sample.JOB_ID,
        job_type="inference",
        parameters=FILE,
        model_id=sample.MODEL_ID,
        status=Status.PENDING,
        project="tenant-1",
        function_version="1.0.0",
        display_name="nightly",
    )


def test_a_message_alone_says_that_there_is_no_job() -> None:
    assert NoJob("No jobs available") == wire.parse_next_job(b'{"message": "No jobs available"}')


def test_no_job_may_grow_keys_that_we_do_not_know() -> None:
    raw = b'{"message": "none", "retry_in_s": 5, "hint": {"queue": 0}}'

    assert NoJob("none") == wire.parse_next_job(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (sample.encode(sample.job() | {"message": "hello"}), "it has the keys of both"),
        (sample.encode(without(sample.job(), "function") | {"message": "hello"}), "it has the keys of both"),
        (b'{"id": "x", "message": "none"}', "it has the keys of both"),
        (b'{"attempt": 1, "message": "none"}', "it has the keys of both"),
        (sample.encode(without(sample.job(), "function")), "not a Job: function: field required"),
        (sample.encode(without(sample.job(), "id")), "not a Job: id: field required"),
        (b"{}", "not a NoJobResponse: message: field required"),
        (b'{"hello": 1}', "not a NoJobResponse: message: field required"),
        (b'{"message": 1}', "not a NoJobResponse: message: input should be a valid string"),
        (b'{"message": null}', "not a NoJobResponse: message: input should be a valid string"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b"42", "not a JSON object"),
        (b"", "not usable JSON"),
        (b'{"message": "no', "not usable JSON"),
        (b"<html>sign in</html>", "not usable JSON"),
    ],
)
def test_what_is_neither_or_both_is_never_taken_for_no_job(raw: bytes, why: str) -> None:
    """The published client takes a broken job with a `message` for "nothing to do"; a job would be lost so."""
    assert why in refused(raw)


# ------------------------------------------------------------------------------------ bad input


def with_id(job_id: Any) -> bytes:
    return sample.encode(sample.job(id=job_id))


def with_size(digits: str) -> bytes:
    return sample.encode(sample.job()).replace(b'"size": 18', b'"size": ' + digits.encode())


def with_name(quoted: str) -> bytes:
    return sample.encode(sample.job()).replace(b'"parameters.json"', quoted.encode())


def nested(levels: int) -> bytes:
    return sample.encode(sample.job()).replace(b'"comments": []', b'"comments": ' + b"[" * levels + b"]" * levels)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<!doctype html><p>Welcome to the airport", "not usable JSON"),
        (sample.encode(sample.job())[:-20], "not usable JSON"),
        (with_id("../../etc"), "id: string should match pattern"),
        (with_id(".."), "id: string should match pattern"),
        (with_id("a/b"), "id: string should match pattern"),
        (with_id("a\n"), "id: string should match pattern"),
        (with_id("a\0b"), "id: string should match pattern"),
        (with_id("x" * 10_000), "id: string should match pattern"),
        (with_id(""), "id: string should match pattern"),
        (with_id(7), "id: input should be a valid string"),
        (
            sample.encode(changed(sample.job(), [], "file", "revisions")),
            "file.revisions: list should have at least 1",
        ),
        (sample.encode(changed(sample.job(), "x", "function")), "function: "),
        (with_size(str(2**63)), "an integer beyond 64 bits"),
        (with_size("1" + "0" * 400), "an integer beyond 64 bits"),
        (with_size("9" * 5000), "an integer beyond 64 bits"),
        (with_size("-1"), "file.revisions.0.size: input should be greater than or equal to 0"),
        (with_size("NaN"), "NaN is not a JSON number"),
        (with_size("Infinity"), "Infinity is not a JSON number"),
        (with_size("-Infinity"), "-Infinity is not a JSON number"),
        (with_size("1e999"), "a number too large for a double"),
        (with_size("true"), "file.revisions.0.size: input should be a valid integer"),
        (with_size('"12"'), "file.revisions.0.size: input should be a valid integer"),
        (with_size("1.5"), "file.revisions.0.size: input should be a valid integer"),
        (nested(1_000), "nested deeper than 64 levels"),
        (nested(100_000), "nested deeper than 64 levels"),
        (sample.encode(sample.job()).replace(b'"comments"', b'"id": "other", "comments"'), "the same key twice"),
        (with_name(r'"\ud800"'), "half of a surrogate pair"),
        (b'{"message": "\xff\xfe"}', "not UTF-8"),
        ('{"message": "none"}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf" + b'{"message": "none"}', "not usable JSON"),
        (with_name(r'"a\u0000b"'), "file.revisions.0.name: "),
        (with_name('""'), "file.revisions.0.name: string should have at least 1 character"),
        (with_name(f'"{"n" * 256}"'), "file.revisions.0.name: string should have at most 255 characters"),
        (sample.encode(changed(sample.job(), "AB" * 48, "file", "revisions", 0, "content_token", "sha")), "sha: "),
        (sample.encode(changed(sample.job(), "../x", "file", "revisions", 0, "content_token", "salt")), "salt: "),
        (sample.encode(sample.job(limits={"timeout_s": 0})), "limits.timeout_s: "),
        (sample.encode(sample.job(limits={"timeout_s": -1})), "limits.timeout_s: "),
        (sample.encode(sample.job(input="file")), "input: "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_bad_answer_to_a_poll_is_refused_by_name(raw: bytes, why: str) -> None:
    assert why in refused(raw)


def test_the_message_about_a_bad_answer_never_quotes_it() -> None:
    secret = "the-patient-has-a-cold"
    document = changed(sample.job(), secret, "file", "revisions", 0, "size")

    assert secret not in refused(sample.encode(document))


def test_of_many_faults_five_are_told() -> None:
    message = refused(b'{"id": "x"}')

    assert message.startswith("not a Job: ")
    assert message.endswith("; and 1 more")
    assert 5 == message.count("field required")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("Running", Status.RUNNING),
        ("cancelled", Status.UNKNOWN),
        ("RUNNING", Status.UNKNOWN),
        ("X", Status.UNKNOWN),
    ],
)
def test_a_status_in_other_spelling_is_unknown_and_the_job_still_read(name: str, status: Status) -> None:
    found = wire.parse_next_job(sample.encode(sample.job("Pending", name)))

    assert isinstance(found, Job)
    assert status is found.status


def test_a_job_of_a_type_that_nobody_has_is_read_all_the_same() -> None:
    """Whether this host runs it is the worker's question."""
    found = wire.parse_next_job(sample.encode(sample.job(function=sample.function("@overmind:tea_making"))))

    assert isinstance(found, Job)
    assert "tea_making" == found.job_type


def test_a_registered_function_is_a_job_type_by_its_own_name() -> None:
    found = wire.parse_next_job(sample.encode(sample.job(function=sample.function("@acme:simulate"))))

    assert isinstance(found, Job)
    assert "@acme:simulate" == found.job_type


def test_a_nul_is_kept_in_free_text() -> None:
    assert NoJob("a\0b") == wire.parse_next_job(rb'{"message": "a\u0000b"}')


# ------------------------------------------------------------------------------------ the documents

DOCUMENTS: dict[type[BaseModel], Callable[[], Any]] = {
    wire.Job: lambda: sample.job("Pending", "Claimed"),
    wire.PageJob: lambda: {"items": [sample.job()], "total": 1, "page": 1, "size": 50, "pages": 1},
    wire.FileRevision: sample.revision,
    wire.Model: sample.model,
    wire.Artifact: sample.artifact,
    wire.TemporaryUrl: lambda: {"url": "https://blobs.example/1?signature=x", "expires": sample.NOW},
    wire.HeartbeatAnswer: lambda: {
        "jobs": [
            {
                "job_id": sample.JOB_ID,
                "attempt": 1,
                "directive": "continue",
                "lease": {"ttl_s": 60.0, "expires_at": sample.NOW},
            }
        ],
        "drain": False,
        "server_time": sample.NOW,
    },
    wire.Capabilities: lambda: {"protocol": "1", "extensions": ["lease"]},
    wire.LogOffset: lambda: {"offset": 12},
    wire.NoJobResponse: lambda: {"message": "no job"},
}


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.__name__)
def test_a_document_is_read_and_says_the_same_when_it_is_written_again(model: type[BaseModel]) -> None:
    found = wire.parse(model, sample.encode(DOCUMENTS[model]()))

    assert found == wire.parse(model, found.model_dump_json().encode())


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.__name__)
def test_a_document_may_grow_keys_that_we_do_not_know(model: type[BaseModel]) -> None:
    document = DOCUMENTS[model]()

    assert wire.parse(model, sample.encode(document)) == wire.parse(model, sample.encode(document | {"new": [1]}))


AT_THE_REVISION = ("file", "revisions", 0)
REQUIRED: list[tuple[str | int, ...]] = [
    *[
        (key,)
        for key in ("id", "created", "file", "comments", "archive_status_history", "created_by_id", "function")
    ],
    *[("file", key) for key in ("id", "created", "revisions", "archive_status_history")],
    *[
        (*AT_THE_REVISION, key)
        for key in ("id", "created", "content_token", "properties_token", "archive_status_history")
    ],
    *[
        (*AT_THE_REVISION, which, key)
        for which in ("content_token", "properties_token")
        for key in ("id", "created", "sha", "salt")
    ],
    *[("archive_status_history", 0, key) for key in ("id", "created", "name")],
    *[("file", "archive_status_history", 0, key) for key in ("id", "created", "name")],
    *[(*AT_THE_REVISION, "archive_status_history", 0, key) for key in ("id", "created", "name")],
    *[
        ("function", key)
        for key in (
            *("id", "created", "name", "version", "module_name", "module_version", "entrypoint", "run_command"),
            *("created_by_id", "status"),
        )
    ],
    *[("function", "status", key) for key in ("id", "created", "created_by_id", "name", "function_id")],
    *[("status_history", 0, key) for key in ("id", "created", "job_id", "name")],
    (*AT_THE_REVISION, "sources", 0, "revision_id"),
]


@pytest.mark.parametrize("path", REQUIRED, ids=lambda path: ".".join(map(str, path)))
def test_a_job_without_a_key_that_the_published_client_insists_on_is_refused_by_its_name(
    path: tuple[str | int, ...],
) -> None:
    document = without(sample.job("Pending"), *path)

    assert f"not a Job: {'.'.join(map(str, path))}: field required" == refused(sample.encode(document))


def _optional_paths(document: Any, *above: str | int) -> list[tuple[str | int, ...]]:
    if isinstance(document, list):
        return [path for number, one in enumerate(document) for path in _optional_paths(one, *above, number)]
    if not isinstance(document, dict):
        return []
    here = [(*above, key) for key in document if (*above, key) not in REQUIRED]
    return here + [path for key, one in document.items() for path in _optional_paths(one, *above, key)]


OPTIONAL = [
    path
    for path in _optional_paths(sample.job("Pending"))
    # an operating system needs all of its keys
    if "operating_systems" not in path[:-1]
]


@pytest.mark.parametrize("path", OPTIONAL, ids=lambda path: ".".join(map(str, path)))
def test_a_job_without_any_other_key_is_read(path: tuple[str | int, ...]) -> None:
    found = wire.parse_next_job(sample.encode(without(sample.job("Pending"), *path)))

    assert isinstance(found, Job)


def test_a_job_is_run_with_its_newest_parameters() -> None:
    older = sample.revision("first.json") | {"id": "older"}
    found = wire.parse_next_job(sample.encode(sample.job(file=sample.file(older, sample.revision()))))

    assert isinstance(found, Job)
    assert FILE == found.parameters


def test_our_own_fields_of_a_job_are_read() -> None:
    raw = sample.encode(sample.job("Pending", "Claimed", limits={"timeout_s": 90}, input="none"))

    found = wire.read_job(wire.parse(wire.Job, raw))

    assert (90.0, False, sample.AGENT_ID) == (found.timeout_s, found.has_input, found.holder)


@pytest.mark.parametrize(
    ("model", "raw", "why"),
    [
        (wire.StatusBody, b'{"mesage": "x"}', "mesage: extra inputs are not permitted"),
        (wire.StatusBody, b'{"detail": {"reason": "No Good"}}', "detail.reason: string should match pattern"),
        (
            wire.StatusBody,
            b'{"detail": {"files": [{"name": "a", "size_bytes": 1}]}}',
            "detail.files.0.sha256: field",
        ),
        (wire.Heartbeat, b'{"slots": 1, "wait_s": 31}', "wait_s: input should be less than or equal to 30"),
        (wire.Heartbeat, b'{"slots": 1, "jobs": [{"job_id": "a", "attempt": 0}]}', "jobs.0.attempt: "),
        (wire.NewAgent, b'{"agent_version": "1"}', "host_os: field required"),
        (wire.ModuleVersion, b'{"module_name": "", "module_version": "1"}', "module_name: "),
        (wire.HeartbeatAnswer, b'{"jobs": [], "drain": 0}', "drain: "),
        (wire.LogOffset, b'{"offset": -1}', "offset: "),
        (wire.TemporaryUrl, b'{"url": 5, "expires": "2026-03-04T05:06:07Z"}', "url: "),
    ],
)
def test_bodies_are_strict(model: type[BaseModel], raw: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.parse(model, raw)

    assert why in str(caught.value)


def test_a_broken_job_is_told_apart_by_its_id() -> None:
    """So that it can be failed; a body that is also a NoJobResponse, or has no usable id, is only an error."""
    broken = without(sample.job(), "function")

    with pytest.raises(BrokenJob, match="function: field required") as caught:
        wire.parse_next_job(sample.encode(broken))
    for other in (broken | {"id": "../../etc"}, broken | {"message": "none"}, broken | {"id": None}):
        with pytest.raises(ProtocolError) as neither:
            wire.parse_next_job(sample.encode(other))
        assert not isinstance(neither.value, BrokenJob)

    assert broken["id"] == caught.value.job_id
