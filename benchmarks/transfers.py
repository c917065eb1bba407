"""
What leaving the host costs: masking a log, a large file over connections that are cut, one whose agent is killed,
and ten thousand small files.

    .venv/bin/python benchmarks/transfers.py [--size-mb 200] [--cuts 20] [--killed-mb 1074]
        [--kills 5] [--files 9998]

Masking: lines of a service's log, a URL in each, six keys of 47 letters known; pieces of 256 KiB, as they are sent.
CPU seconds of this thread, the best of five.
Upload: a real control plane on loopback in a process of its own, a proxy that cuts all connections at random bytes,
parts of 16 MiB. The upload is made by a process of its own, which has all of the daemon's modules in its memory and
neither the proxy nor a server; its peak (VmHWM) is what is told. What was sent again is all that went through the
proxy, requests too, without the file's size.
Killed: the installed agent does one job whose output is as large as is said; when as many bytes of it as were drawn
at random have gone through the proxy, it is ended with SIGKILL and started again, so many times.
Small files: the installed agent does one job with so many files of a few bytes, beside its output and its manifest.
Counted is every request that comes through the proxy from the agent's start to its end: registration, question,
statuses, log and files; heartbeats, which come with the time that it takes, by themselves.
Ends with 1 when agents send more than two parts again for each kill, or when there are more than 150 requests.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

TESTS: Final = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

import overmind_agent.service  # noqa: E402, F401 - what the daemon has in its memory
from overmind_agent.errors import TransientError  # noqa: E402
from overmind_agent.logs.pieces import next_piece  # noqa: E402
from overmind_agent.over_http.blob_store import PART_BYTES, BlobStore  # noqa: E402
from overmind_agent.over_http.calls import HttpCalls  # noqa: E402
from overmind_agent.over_http.uploads import ForgetfulLedger  # noqa: E402
from overmind_config.redaction import Redactor  # noqa: E402

if TYPE_CHECKING:
    from cutting_proxy import CuttingProxy

MB: Final = 1_000_000
LOG_BYTES: Final = 16 * MB
LINE: Final = (
    b"2026-01-01T00:00:00Z info row.scored row=%d score=0.8123 url=https://api.example/v1/chat latency_ms=%d "
    b'text="The quick brown fox jumps over it"\n'
)
SALT: Final = b"0" * 32
MOST_PARTS_AGAIN: Final = 2
MOST_CALLS: Final = 150
LEAST_ID: Final = 36
AGENT: Final = 'job_types = ["ledger"]\njob_env = ["PYTHONPATH"]\nmin_free_bytes = 0\n'
PYTHON_PATH: Final = str(TESTS / "kit" / "python_path")


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


def killing(folder: Path, size_bytes: int, kills: int) -> bool:
    """Whether an agent that is killed in the midst of its upload sends at most MOST_PARTS_AGAIN again each time."""
    from host import Host, Submitter, wait_until
    from plane_files import make_job

    from cutting_proxy import CuttingProxy
    from server import start_control_plane

    draw = random.Random(3)  # noqa: S311 - not a secret
    kill_at = sorted(draw.randrange(size_bytes) for _ in range(kills))
    with start_control_plane(folder) as plane, CuttingProxy(plane.url, []) as proxy:
        host = Host(folder / "host", proxy.url, plane.agent_token, "http://127.0.0.1:9", more=AGENT)
        submitter = Submitter(plane.url, plane.submit_token)
        told = {"ledger": str(folder / "ledger"), "size_bytes": size_bytes}
        job_id = make_job(plane.url, plane.submit_token, b"", "input.txt", told, job_type="ledger")
        made = 0
        try:
            for sent_bytes in kill_at:
                agent = host.start("--once", PYTHONPATH=PYTHON_PATH)
                wait_until(partial(_has_sent, proxy, sent_bytes), timeout_s=600)
                agent.signal(signal.SIGKILL)
                made += agent.exit_code() == -signal.SIGKILL
            host.start("--once", PYTHONPATH=PYTHON_PATH).exit_code()
            end = submitter.history(job_id)[-1]
        finally:
            host.stop_all()
            submitter.close()
    parts = (proxy.sent_bytes - size_bytes) / PART_BYTES / max(1, made)
    print(
        f"killed {made} times in the upload of {size_bytes / MB:.0f} MB: {parts:.2f} parts of {PART_BYTES >> 20} "
        f"MiB sent again for each kill; the job is {end}"
    )
    return parts <= MOST_PARTS_AGAIN and end == "Completed"


def _has_sent(proxy: CuttingProxy, size_bytes: int) -> bool:
    return proxy.sent_bytes >= size_bytes


def small_files(folder: Path, number: int) -> bool:
    """Whether *number* small files of one job come with at most MOST_CALLS requests."""
    from host import Host, Submitter
    from plane_files import make_job

    from overmind_agent.testing.fault_proxy import FaultProxy
    from server import start_control_plane

    with start_control_plane(folder) as plane, FaultProxy(plane.url) as proxy:
        host = Host(folder / "host", proxy.url, plane.agent_token, "http://127.0.0.1:9", more=AGENT)
        submitter = Submitter(plane.url, plane.submit_token)
        told = {"ledger": str(folder / "ledger"), "small_files": number}
        job_id = make_job(plane.url, plane.submit_token, b"", "input.txt", told, job_type="ledger")
        try:
            agent = host.start("--once", PYTHONPATH=PYTHON_PATH)
            began_s = time.monotonic()
            agent.process.wait(1200)
            took_s = time.monotonic() - began_s
            agent.exit_code()
            end = submitter.history(job_id)[-1]
            model = submitter.call("GET", f"/api/v2/models/{submitter.job(job_id)['model_id']}")
        finally:
            host.stop_all()
            submitter.close()
    calls = Counter(_route(line) for _, line, _ in proxy.passed)
    beats = calls.pop("POST api/v2/agents/heartbeat", 0)
    print(
        f"small files: {len(model['artifacts']):,} files in {calls.total()} requests, {took_s:.0f} s and {beats} "
        f"heartbeats; the job is {end}; {dict(calls.most_common())}"
    )
    return calls.total() <= MOST_CALLS and end == "Completed"


def _route(line: str) -> str:
    """Verb and path of a request without what differs from job to job."""
    verb, path = line.split()
    places = path.partition("?")[0].strip("/").split("/")
    return f"{verb} {'/'.join(place for place in places if len(place) < LEAST_ID)}"


def _peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` has in it what the process was before it became this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--killed-mb", type=int, default=1074, help="1 GiB")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--files", type=int, default=9998, help="with output and manifest 10,000")
    told = parser.parse_args()
    masking()
    with tempfile.TemporaryDirectory() as folder:
        uploading(Path(folder), told.size_mb * MB, told.cuts)
    with tempfile.TemporaryDirectory() as folder:
        is_well = killing(Path(folder), told.killed_mb * MB, told.kills)
    with tempfile.TemporaryDirectory() as folder:
        is_well &= small_files(Path(folder), told.files)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
