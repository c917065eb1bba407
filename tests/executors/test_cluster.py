"""Calls that the workers of a real Dask cluster make: a scheduler and two workers, each a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_executors.calls.cluster import ClusterHttp, connect
from overmind_executors.calls.timed_http import CallFailed
from overmind_executors.contract import Context, ExecutionFailed, ModelEndpoint, Result
from overmind_executors.inference import InferenceExecutor
from zoo import Zoo

Make = Callable[..., Context]
KEY: Final = "sk-canary-of-the-workers"
THREADS: Final = 4
ROWS: Final = 60


@dataclass
class Cluster:
    """Its address, its workers, and the folder of everything that it logs."""

    address: str
    workers: list[subprocess.Popen[bytes]]
    folder: Path


def _start(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers without nannies: who is killed stays dead."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    place = folder / "scheduler.json"
    scheduler = _start(
        folder,
        "scheduler",
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(place),
    )
    options = ["--nthreads", str(THREADS), "--no-nanny", "--no-dashboard", "--scheduler-file", str(place)]
    workers = [_start(folder, f"worker-{number}", "worker", *options) for number in range(2)]
    try:
        yield Cluster(_address(place, 2), workers, folder)
    finally:
        for process in (*workers, scheduler):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _address(place: Path, workers: int) -> str:
    """Once that many workers are there. The scheduler writes its file before it listens for long."""
    from distributed import Client

    _wait_until(lambda: place.exists() and place.read_text().endswith("}"))
    address = str(json.loads(place.read_text())["address"])
    with Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=30)
    return address


def _wait_until(is_so: Callable[[], bool]) -> None:
    ends_at_s, nothing = time.monotonic() + 30, threading.Event()
    while not is_so():
        assert time.monotonic() < ends_at_s, "it never came to be so"
        nothing.wait(0.02)


def _endpoint(zoo: Zoo, cluster: Cluster, **more: Any) -> ModelEndpoint:
    return ModelEndpoint(
        "echo", zoo.url, "echo", max_concurrency=2 * THREADS, dask_scheduler=cluster.address, **more
    )


def _run(context: Context) -> Result:
    executor = InferenceExecutor()
    items = [{"id": f"r{n}", "input": f"text {n}"} for n in range(ROWS)]
    return executor.run(executor.validate({"target": {"model": "echo"}, "items": items, "concurrency": 8}), context)


def test_a_worker_that_is_killed_costs_at_most_its_calls_in_flight(
    zoo: Zoo, make_context: Make, cluster: Cluster, tmp_path: Path
) -> None:
    """
    Twenty answers, then a gate with eight calls before it, four on each worker; one worker is killed. Every row has
    its answer, in order, and no more than the calls in flight were made twice. No key was sent or logged.
    """
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    zoo.close_gate(after=20)
    endpoint = ModelEndpoint(
        "echo",
        zoo.url,
        "echo",
        max_concurrency=2 * THREADS,
        dask_scheduler=cluster.address,
        api_key=KEY,
        api_key_file=str(key_file),
    )

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_run, make_context(models={"echo": endpoint}))
        zoo.wait_for_calls(20 + 2 * THREADS)
        cluster.workers[0].send_signal(signal.SIGKILL)
        cluster.workers[0].wait()
        zoo.open_gate()
        outcome = running.result(60).outcome

    lines = [json.loads(line) for line in (tmp_path / "output" / "output.jsonl").read_text().splitlines()]
    assert {"total": ROWS, "ok": ROWS, "failed": 0, "skipped": 0} == outcome["counts"]
    assert [f"text {n}" for n in range(ROWS)] == [line["x_overmind"]["output"] for line in lines]
    assert zoo.total <= ROWS + 2 * THREADS
    assert {f"Bearer {KEY}"} == zoo.authorizations
    for log in cluster.folder.glob("*.log"):
        assert KEY not in log.read_text(errors="replace"), log


def test_a_cluster_that_is_not_there_is_a_failure_with_a_reason(zoo: Zoo) -> None:
    endpoint = ModelEndpoint("echo", zoo.url, "echo", dask_scheduler="tcp://127.0.0.1:9")

    with pytest.raises(ExecutionFailed) as failed:
        connect(endpoint, timeout_s=0.2)

    assert "cluster_unavailable" == failed.value.reason


class Broken(Executor):
    """A pool that loses what it is given."""

    def submit(self, *_arguments: Any, **_more: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("KilledWorker"))
        return future


def test_a_call_that_the_cluster_lost_is_a_failure_of_the_way_not_of_the_job() -> None:
    http = ClusterHttp(Broken(), "", close=lambda: None)

    with pytest.raises(CallFailed, match=r"the cluster lost the call \(RuntimeError\)"):
        http.post("http://127.0.0.1:9/", body=b"", headers={"Authorization": "Bearer x"}, timeout_s=1)


def test_what_a_worker_is_sent_has_no_key_and_shows_nothing() -> None:
    sent: list[Any] = []

    class Kept(Broken):
        def submit(self, *arguments: Any, **_more: Any) -> Future[Any]:  # type: ignore[override]
            sent.extend(arguments)
            return super().submit()

    http = ClusterHttp(Kept(), "/keys/model", close=lambda: None)
    with pytest.raises(CallFailed):
        http.post("http://127.0.0.1:9/", body=b"a row", headers={"Authorization": f"Bearer {KEY}"}, timeout_s=1)

    assert KEY.encode() not in pickle.dumps(sent)
    assert "a row" not in repr(sent)
