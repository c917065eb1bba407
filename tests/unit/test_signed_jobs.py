"""Jobs that are signed, and those that are not, or not any more: which of them a host runs."""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from structlog.testing import capture_logs

from daemon_parts import Daemon
from overmind_agent.jobs import RemoteFile
from overmind_agent.lifecycle import Status
from overmind_agent.signing.claims import Work
from overmind_agent.signing.jws import sign
from overmind_agent.signing.keys import UnusableKey, read_key
from overmind_agent.signing.policy import LEEWAY_S, Signatures
from overmind_agent.testing import FakeServer

NOW_S = 1_800_000_000
PROJECT = "8b0e7f0a-4f46-4a3c-9a55-0f5d7a2f0009"
SECRET = "a-shared-secret-of-many-letters-0123456789"
V, R, U, DONE, FAILED = Status.VALIDATING, Status.RUNNING, Status.UPLOADING, Status.COMPLETED, Status.FAILED
Start = Callable[..., Daemon]


def write_key(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """A key file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def write_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A key to sign with, and the one to check by."""
    made = OKPKey.generate_key("Ed25519")
    private = write_key(folder / f"{name}.key", made.as_pem(private=True))
    return private, write_key(folder / f"{name}.pub", made.as_pem(private=False), 0o644)


def signature(
    server: FakeServer, job_id: str, key: Path, name: str = "release", expires_at: int = NOW_S + 60
) -> str:
    """Of the job as its submitter made it."""
    found = server.jobs[job_id]
    work = Work.of(found.job, found.input_file)
    return sign(work.claims(), read_key(key, to_sign=True), name, expires_at=expires_at)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A pair."""
    return write_pair(tmp_path, "release")


@pytest.fixture
def blocking(keys: tuple[Path, Path]) -> Signatures:
    """A host that runs what is signed with that pair's key."""
    return Signatures("block", {"release": keys[1]}, lambda: NOW_S)


@pytest.fixture
def signed_job(server: FakeServer, keys: tuple[Path, Path]) -> str:
    """A job with an input file, signed; its id."""
    job_id = server.submit("inference", {"prompt": "p"}, input_bytes=b"rows")
    server.alter(job_id, project=PROJECT, function_version="1.0.0", display_name="nightly")
    server.alter(job_id, signature=signature(server, job_id, keys[0]))
    return job_id


def ran(daemon: Daemon, server: FakeServer, job_id: str) -> tuple[list[Status], str | None, str | None]:
    """The statuses that the server heard after the claim; the reason and the message of the last."""
    ended = daemon.run(daemon.claimed())
    daemon.delivery.deliver()
    return server.jobs[job_id].history[2:], ended.reason, ended.message


def test_a_signed_job_is_run(start: Start, server: FakeServer, blocking: Signatures, signed_job: str) -> None:
    daemon = start(signatures=blocking)

    assert ([V, R, U, DONE], None, "2 files") == ran(daemon, server, signed_job)


def test_a_shared_secret_signs_and_checks(start: Start, server: FakeServer, tmp_path: Path) -> None:
    secret = write_key(tmp_path / "shared", SECRET)
    job_id = server.submit()
    server.alter(job_id, signature=signature(server, job_id, secret))
    daemon = start(signatures=Signatures("block", {"release": secret}, lambda: NOW_S))

    assert DONE is ran(daemon, server, job_id)[0][-1]


FILE = RemoteFile("rows.jsonl", "ef" * 48, "01" * 16, 4, "revision-9")
CHANGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "project": lambda _: {"project": "another"},
    "no project": lambda _: {"project": None},
    "job_type": lambda _: {"job_type": "judge_scoring"},
    "a function": lambda _: {"job_type": "@acme:inference"},
    "function_version": lambda _: {"function_version": "2.0.0"},
    "display_name": lambda _: {"display_name": "weekly"},
    "parameters_name": lambda job: {"parameters": replace(job.job.parameters, name="other.json")},
    "parameters_sha": lambda job: {"parameters": replace(job.job.parameters, sha="ab" * 48)},
    "parameters_salt": lambda job: {"parameters": replace(job.job.parameters, salt="cd" * 16)},
    "parameters_size": lambda job: {"parameters": replace(job.job.parameters, size_bytes=1)},
    "input_name": lambda job: {"input_file": replace(job.input_file, name="other.jsonl")},
    "input_sha": lambda job: {"input_file": replace(job.input_file, sha=FILE.sha)},
    "input_salt": lambda job: {"input_file": replace(job.input_file, salt=FILE.salt)},
    "input_size": lambda job: {"input_file": replace(job.input_file, size_bytes=5)},
    "no input": lambda _: {"input_file": None},
    "another input": lambda _: {"input_file": FILE},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_job_that_was_changed_is_refused_before_anything_is_done(
    start: Start, server: FakeServer, blocking: Signatures, signed_job: str, change: str
) -> None:
    server.alter(signed_job, **CHANGES[change](server.jobs[signed_job]))
    daemon = start(signatures=blocking, job_types=("inference", "judge_scoring", "@acme:inference"))

    statuses, reason, message = ran(daemon, server, signed_job)

    assert ([FAILED], "signature_rejected") == (statuses, reason)
    assert message is not None
    assert message.startswith("what 'release' signed differs in ")
    assert {"read_parameters", "download"}.isdisjoint(server.calls)
    assert 0 == daemon.launcher.runs


def test_what_differs_is_named(start: Start, server: FakeServer, blocking: Signatures, signed_job: str) -> None:
    server.alter(signed_job, project="another", input_file=replace(FILE, name="x\x1b[31m"))
    daemon = start(signatures=blocking)

    expected = "what 'release' signed differs in input_name, input_salt, input_sha, project"
    assert expected == ran(daemon, server, signed_job)[2]


def openssl(*arguments: str | Path) -> None:
    """As the docs do it."""
    subprocess.run(["/usr/bin/env", "openssl", *arguments], check=True)


def encoded(value: Any) -> str:
    """As a part of a JSON Web Signature."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(server: FakeServer, job_id: str, header: dict[str, Any], key: Any, **more: Any) -> str:
    """A signature that somebody made in another way than ours is made; *more* are further claims."""
    found = server.jobs[job_id]
    claims = {**Work.of(found.job, found.input_file).claims(), "version": 1, "expires_at": NOW_S + 60, **more}
    return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[header["alg"]])


def _by_public_key(server: FakeServer, job_id: str, keys: tuple[Path, Path]) -> str:
    """As one that has it would sign for a reader that lets the signature say how it is to be checked."""
    good = (server.jobs[job_id].job.signature or "").split(".")
    head = f"{encoded({**HEADER, 'alg': 'HS256'})}.{good[1]}"
    return f"{head}.{encoded(hmac.digest(keys[1].read_bytes().strip(), head.encode(), 'sha256'))}"


HEADER = {"alg": "Ed25519", "kid": "release", "typ": "overmind-job+jws"}
Forge = Callable[[FakeServer, str, tuple[Path, Path]], str | None]


def _with(change: Callable[[list[str]], list[str]]) -> Forge:
    return lambda server, job_id, _keys: ".".join(change((server.jobs[job_id].job.signature or "").split(".")))


def _by(header: dict[str, Any], **more: Any) -> Forge:
    return lambda server, job_id, keys: forged(
        server, job_id, header, OKPKey.import_key(keys[0].read_text()), **more
    )


FORGERIES: dict[str, tuple[Forge, str]] = {
    "none": (lambda _server, _job_id, _keys: None, "the job is not signed"),
    "empty": (lambda _server, _job_id, _keys: "", "the signature is not right"),
    "no JWS": (lambda _server, _job_id, _keys: "a.b", "the signature is not right"),
    "letters beyond ASCII": (lambda _server, _job_id, _keys: "ä.b.c", "it is not a JSON Web Signature"),
    "other bytes": (_with(lambda parts: [*parts[:2], encoded(bytes(64))]), "the signature is not right"),
    "no bytes": (_with(lambda parts: [*parts[:2], ""]), "the signature is not right"),
    "other claims": (_with(lambda parts: [parts[0], encoded({"version": 1}), parts[2]]), "is not right"),
    "alg none": (
        _with(lambda parts: [encoded({**HEADER, "alg": "none"}), parts[1], ""]),
        "the signature is not right",
    ),
    "the public key as a secret": (lambda *given: _by_public_key(*given), "the signature is not right"),
    "another key": (
        lambda server, job_id, _keys: forged(server, job_id, HEADER, OKPKey.generate_key("Ed25519")),
        "the signature is not right",
    ),
    "an unknown key": (_by({**HEADER, "kid": "elsewhere"}), "key 'elsewhere', which policy.signing_keys does not"),
    "no key": (_by({"alg": "Ed25519", "typ": HEADER["typ"]}), "its header is not one of a job's signature"),
    "another kind": (_by({**HEADER, "typ": "JWT"}), "its header is not one of a job's signature"),
    "a further header": (_by({**HEADER, "cty": "json"}), "its header is not one of a job's signature"),
    "a further claim": (_by(HEADER, nice=True), "what 'release' signed differs in nice"),
    "a further claim of nothing": (_by(HEADER, nice=None), "what 'release' signed differs in nice"),
    "another version": (_by(HEADER, version=2), "it is not of version 1"),
    "no end": (_by(HEADER, expires_at=None), "it does not say until when it is good"),
    "an end that is none": (_by(HEADER, expires_at=True), "it does not say until when it is good"),
    "expired": (_by(HEADER, expires_at=NOW_S - int(LEEWAY_S) - 1), "by 'release' has expired; sign the job again"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_job_without_a_good_signature_is_refused(
    start: Start,
    server: FakeServer,
    keys: tuple[Path, Path],
    blocking: Signatures,
    signed_job: str,
    name: str,
) -> None:
    forge, why = FORGERIES[name]
    server.alter(signed_job, signature=forge(server, signed_job, keys))
    daemon = start(signatures=blocking)

    statuses, reason, message = ran(daemon, server, signed_job)

    assert ([FAILED], "signature_rejected") == (statuses, reason)
    assert why in (message or "")


def test_an_input_that_the_server_names_only_later_is_the_signed_one_or_none(
    start: Start, server: FakeServer, blocking: Signatures, signed_job: str
) -> None:
    """It is asked for once: what was looked at is what is fetched."""
    daemon = start(signatures=blocking)

    ran(daemon, server, signed_job)

    assert 1 == server.calls.count("input_file")


def test_a_host_that_warns_runs_it_and_says_so(start: Start, server: FakeServer, keys: tuple[Path, Path]) -> None:
    job_id = server.submit()
    daemon = start(signatures=Signatures("warn", {"release": keys[1]}, lambda: NOW_S))

    with capture_logs() as lines:
        statuses, _, _ = ran(daemon, server, job_id)

    assert DONE is statuses[-1]
    assert [("the job is not signed", job_id)] == [
        (line["message"], line["job_id"]) for line in lines if line["event"] == "job.signature_doubted"
    ]


def test_a_host_that_does_not_ask_looks_at_nothing(start: Start, server: FakeServer) -> None:
    job_id = server.submit()
    server.alter(job_id, signature="no.signature.at-all")
    daemon = start()

    with capture_logs() as lines:
        assert DONE is ran(daemon, server, job_id)[0][-1]

    assert [] == [line for line in lines if "signature" in line["event"]]


def test_two_keys_are_good_until_one_is_taken_out(start: Start, server: FakeServer, tmp_path: Path) -> None:
    """So that a key can follow another while jobs wait that were signed with the old one."""
    (old, old_public), (new, new_public) = write_pair(tmp_path, "old"), write_pair(tmp_path, "new")
    both = Signatures("block", {"old": old_public, "new": new_public}, lambda: NOW_S)
    later = replace(both, key_files={"new": new_public})
    told = []
    for name, key, accepted in (("old", old, both), ("new", new, both), ("old", old, later)):
        job_id = server.submit()
        server.alter(job_id, signature=signature(server, job_id, key, name))
        daemon = start(signatures=accepted)
        told.append(daemon.run(daemon.claimed(key=job_id)).reason)

    assert [None, None, "signature_rejected"] == told


def test_a_job_that_was_begun_goes_on_when_its_signature_expires(
    start: Start, server: FakeServer, blocking: Signatures, signed_job: str
) -> None:
    daemon = start(signatures=blocking)
    held = daemon.claimed()
    daemon.journal.post(held.claim, V)
    late = replace(blocking, now_s=lambda: NOW_S + 1e6)

    ended = start(signatures=late).run(held)

    assert (DONE, None) == (ended.status, ended.reason)


def test_a_job_that_was_begun_is_given_no_other_input(
    start: Start, server: FakeServer, blocking: Signatures, signed_job: str
) -> None:
    daemon = start(signatures=blocking)
    held = daemon.claimed()
    daemon.journal.post(held.claim, V)
    server.alter(signed_job, input_file=FILE)

    assert "signature_rejected" == daemon.run(held).reason


# ------------------------------------------------------------------------------------ key files


def test_keys_of_openssl_are_read(tmp_path: Path) -> None:
    private, public = tmp_path / "release.key", tmp_path / "release.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    private.chmod(0o600)
    public.chmod(0o644)

    made = read_key(private, to_sign=True), read_key(public, to_sign=False)

    assert [("Ed25519", True), ("Ed25519", False)] == [(key.algorithm, key.is_private) for key in made]
    assert "KEY" not in repr(made)


def _pair(folder: Path) -> tuple[Path, Path]:
    return write_pair(folder, "release")


BAD_KEYS: dict[str, tuple[Callable[[Path], Path], bool, str]] = {
    "missing": (lambda folder: folder / "none", False, "cannot be read: No such file or directory"),
    "a folder": (lambda folder: folder, False, "is not a file that holds one key"),
    "empty": (lambda folder: write_key(folder / "k", ""), False, "is not a file that holds one key"),
    "huge": (lambda folder: write_key(folder / "k", "x" * 20_000), False, "is not a file that holds one key"),
    "not ASCII": (lambda folder: write_key(folder / "k", "ä" * 40), False, "is not a file that holds one key"),
    "a short secret": (
        lambda folder: write_key(folder / "k", "x" * 31),
        False,
        "neither a key in PEM nor a secret",
    ),
    "two words": (
        lambda folder: write_key(folder / "k", "x" * 32 + " y"),
        False,
        "neither a key in PEM nor a secret",
    ),
    "a secret open to others": (lambda folder: write_key(folder / "k", SECRET, 0o640), False, "run chmod 600"),
    "a private key to check by": (lambda folder: _pair(folder)[0], False, "does not hold a public key"),
    "a public key to sign with": (lambda folder: _pair(folder)[1], True, "does not hold a private key"),
    "a private key open to others": (
        lambda folder: write_key(folder / "k", _pair(folder)[0].read_bytes(), 0o644),
        True,
        "is open to other users (mode 0644); run chmod 600",
    ),
    "a public key that others may write": (
        lambda folder: write_key(folder / "k", _pair(folder)[1].read_bytes(), 0o666),
        False,
        "can be written by other users (mode 0666); run chmod go-w",
    ),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_file_that_will_not_do_is_refused_by_name(tmp_path: Path, name: str) -> None:
    make, to_sign, why = BAD_KEYS[name]
    path = make(tmp_path)

    with pytest.raises(UnusableKey) as caught:
        read_key(path, to_sign=to_sign)

    assert str(caught.value).startswith(str(path))
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", ["-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----", None])
def test_a_key_that_is_not_of_ed25519_checks_nothing(
    start: Start, server: FakeServer, tmp_path: Path, signed_job: str, content: str | None
) -> None:
    path = tmp_path / "other.pub"
    if content is None:
        openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "x.key")
        openssl("pkey", "-in", tmp_path / "x.key", "-pubout", "-out", path)
        path.chmod(0o644)
    else:
        write_key(path, content)
    daemon = start(signatures=Signatures("block", {"release": path}, lambda: NOW_S))

    assert "signature_rejected" == ran(daemon, server, signed_job)[1]


def test_a_key_that_goes_missing_is_not_believed_any_longer(
    start: Start, server: FakeServer, keys: tuple[Path, Path], blocking: Signatures, signed_job: str
) -> None:
    daemon = start(signatures=blocking)
    keys[1].unlink()

    statuses, reason, message = ran(daemon, server, signed_job)

    assert ([FAILED], "signature_rejected") == (statuses, reason)
    assert "cannot be read" in (message or "")
