"""A large result file on its way to the real control plane: in parts, over cut connections and restarts."""

from __future__ import annotations

import hashlib
import random
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutting_proxy import CuttingProxy
from overmind_agent.errors import TransientError, UploadError
from overmind_agent.over_http.blob_store import BlobStore
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.uploads import ForgetfulLedger
from server import ControlPlaneProcess

PART = 64 * 1024
SIZE = 40 * PART + 7
CUTS = 20


@dataclass(frozen=True)
class Large:
    """A file, its storage key and its SHA-256."""

    path: Path
    key: str
    sha256: bytes


@pytest.fixture
def large(tmp_path: Path) -> Large:
    content = random.Random(3).randbytes(SIZE)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    return Large(path, hashlib.sha384(content + b"0" * 32).hexdigest(), hashlib.sha256(content).digest())


def store(calls: HttpCalls, ledger: ForgetfulLedger, *, lists_parts: bool = True) -> BlobStore:
    return BlobStore(calls, lists_parts=lambda: lists_parts, ledger=ledger, part_bytes=PART, whole_bytes=PART)


def put(blobs: BlobStore, large: Large) -> None:
    with large.path.open("rb") as file:
        blobs.put_file(large.key, file, SIZE, large.sha256)


def stored(running: ControlPlaneProcess, project_id: str, key: str) -> bytes:
    return (running.data / "blobs" / project_id / key[:2] / key).read_bytes()


@pytest.mark.parametrize("lists_parts", [True, False], ids=["with extensions", "plain"])
def test_a_large_file_arrives_whole(running: ControlPlaneProcess, large: Large, lists_parts: bool) -> None:
    tokens = running.new_project()
    ledger = ForgetfulLedger()
    with closing(HttpCalls(running.url, lambda: tokens.agent)) as calls:
        put(store(calls, ledger, lists_parts=lists_parts), large)
        put(store(calls, ledger, lists_parts=lists_parts), large)  # it is there: nothing is sent

    assert large.path.read_bytes() == stored(running, tokens.project_id, large.key)
    assert None is ledger.upload_id(large.key)


@pytest.mark.parametrize("restarts", [False, True], ids=["one process", "restarted each time"])
def test_what_has_arrived_is_not_sent_again(running: ControlPlaneProcess, large: Large, restarts: bool) -> None:
    """Twenty cuts at random bytes: each costs at most the part that was on its way."""
    tokens = running.new_project()
    draw = random.Random(11)
    cuts = [draw.randrange(SIZE) for _ in range(CUTS)]
    ledger = ForgetfulLedger()
    tries = 0
    with CuttingProxy(running.url, cuts) as proxy, closing(HttpCalls(proxy.url, lambda: tokens.agent)) as calls:
        blobs = store(calls, ledger)
        while True:
            tries += 1
            assert tries <= 3 * CUTS
            blobs = store(calls, ledger) if restarts else blobs
            try:
                put(blobs, large)
                break
            except TransientError:
                continue

    head_bytes = 1000 * (SIZE // PART + 4 * tries)
    assert large.path.read_bytes() == stored(running, tokens.project_id, large.key)
    assert proxy.made_cuts >= CUTS // 2
    assert proxy.sent_bytes <= SIZE + proxy.made_cuts * PART + head_bytes


def test_a_part_that_is_another_one_now_is_found(running: ControlPlaneProcess, large: Large) -> None:
    """The file of another run under the same key, or a part that was damaged on the server's disk."""
    tokens = running.new_project()
    ledger = ForgetfulLedger()
    with (
        CuttingProxy(running.url, [SIZE // 2]) as proxy,
        closing(HttpCalls(proxy.url, lambda: tokens.agent)) as calls,
    ):
        with pytest.raises(TransientError):
            put(store(calls, ledger), large)
        (part,) = (running.data / "blobs" / "incoming" / tokens.project_id).glob("*/1")
        part.write_bytes(b"x" * PART)

        put(store(calls, ledger), large)

    assert large.path.read_bytes() == stored(running, tokens.project_id, large.key)


def test_a_file_that_became_shorter_meanwhile_is_found(running: ControlPlaneProcess, large: Large) -> None:
    tokens = running.new_project()
    with closing(HttpCalls(running.url, lambda: tokens.agent)) as calls:
        large.path.write_bytes(large.path.read_bytes()[: SIZE // 2])

        with pytest.raises(UploadError) as caught:
            put(store(calls, ForgetfulLedger()), large)

    assert "output_changed" == caught.value.reason
