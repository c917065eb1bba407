"""
What leaving the host costs: masking a log, and a large file over connections that are cut.

    .venv/bin/python benchmarks/transfers.py [--size-mb 200] [--cuts 20]

Masking: lines of a service's log, a URL in each, six keys of 47 letters known; pieces of 256 KiB, as they are sent.
CPU seconds of this thread, the best of five.
Upload: a real control plane on loopback in a process of its own, a proxy that cuts all connections at random bytes,
parts of 16 MiB. The upload is made by a process of its own, which has all of the daemon's modules in its memory and
neither the proxy nor a server; its peak (VmHWM) is what is told. What was sent again is all that went through the
proxy, requests too, without the file's size.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import multiprocessing
import random
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import overmind_agent.service  # noqa: F401 - what the daemon has in its memory
from overmind_agent.errors import TransientError
from overmind_agent.logs.pieces import next_piece
from overmind_agent.over_http.blob_store import PART_BYTES, BlobStore
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.uploads import ForgetfulLedger
from overmind_config.redaction import Redactor

MB: Final = 1_000_000
LOG_BYTES: Final = 16 * MB
LINE: Final = (
    b"2026-01-01T00:00:00Z info row.scored row=%d score=0.8123 url=https://api.example/v1/chat latency_ms=%d "
    b'text="The quick brown fox jumps over it"\n'
)
SALT: Final = b"0" * 32


def masking() -> None:
    draw = random.Random(1)  # noqa: S311 - not a secret
    keys = ["ovr_" + base64.urlsafe_b64encode(draw.randbytes(32)).decode().rstrip("=") for _ in range(6)]
    redactor = Redactor(keys)
    log = b"".join(LINE % (number, number * 7) for number in range(LOG_BYTES // len(LINE)))
    best_s = min(_mask(log, redactor) for _ in range(5))
    rate = len(log) / MB / best_s
    print(f"masking: {rate:.0f} MB/s; at 20 MB/s {20 / rate:.1%} of one processor")


def _mask(log: bytes, redactor: Redactor) -> float:
    began_s, at = time.thread_time(), 0
    while piece := next_piece(
        lambda start, size: log[start : start + size], redactor, at=at, end=len(log), is_final=True
    ):
        at += len(piece)
    return time.thread_time() - began_s


def uploading(folder: Path, size_bytes: int, cuts: int) -> None:
    # Here, so that the process that uploads does not have them.
    from cutting_proxy import CuttingProxy
    from server import start_control_plane

    draw = random.Random(2)  # noqa: S311 - not a secret
    path = folder / "large.bin"
    key, sha256 = hashlib.sha384(), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size_bytes // MB):
            chunk = draw.randbytes(MB)
            file.write(chunk)
            key.update(chunk)
            sha256.update(chunk)
    key.update(SALT)
    size_bytes = path.stat().st_size
    with (
        start_control_plane(folder) as plane,
        CuttingProxy(plane.url, [draw.randrange(size_bytes) for _ in range(cuts)]) as proxy,
        multiprocessing.get_context("spawn").Pool(1) as alone,
    ):
        began_s = time.monotonic()
        tries, peak_bytes, idle_bytes = alone.apply(
            _upload, (proxy.url, plane.agent_token, path, key.hexdigest(), sha256.digest())
        )
        took_s = time.monotonic() - began_s
        again = proxy.sent_bytes - size_bytes
    print(
        f"upload: {size_bytes / MB:.0f} MB, {proxy.made_cuts} cuts, {tries} tries, {took_s:.1f} s; "
        f"{again / MB:.1f} MB sent again, {again / max(1, proxy.made_cuts) / PART_BYTES:.2f} parts a cut; "
        f"memory {idle_bytes / MB:.0f} MB before, {peak_bytes / MB:.0f} MB at its peak"
    )


def _upload(url: str, token: str, path: Path, key: str, sha256: bytes) -> tuple[int, int, int]:
    """In a process of its own; returns the tries, and its memory at the peak and before, in bytes."""
    tries, before = 0, _peak_bytes()
    with closing(HttpCalls(url, lambda: token)) as calls, path.open("rb") as file:
        ledger = ForgetfulLedger()
        while True:
            tries += 1
            blobs = BlobStore(calls, lists_parts=lambda: True, ledger=ledger)  # as after a restart
            try:
                blobs.put_file(key, file, path.stat().st_size, sha256)
            except TransientError:
                continue
            return tries, _peak_bytes(), before


def _peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` has in it what the process was before it became this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=20)
    told = parser.parse_args()
    masking()
    with tempfile.TemporaryDirectory() as folder:
        uploading(Path(folder), told.size_mb * MB, told.cuts)


if __name__ == "__main__":
    main()
