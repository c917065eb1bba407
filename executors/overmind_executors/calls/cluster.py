"""
The calls to a model, made by the workers of a Dask cluster in place of this process.

```
row ─▶ limits, budget, journal: here ─▶ concurrent.futures.Executor ─▶ a worker ─▶ the model's provider
```

What a job may spend, how hard a provider is pressed and what was paid for is known in one place, as without a
cluster; only the call itself is elsewhere. When a worker dies, its calls are made again by another one.

**No key is sent.** A worker reads it from its own disk, at the path that this host has in `api_key_file`: what a
task carries, schedulers keep in memory and workers log when it fails.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future, wait
from pathlib import Path
from typing import Any, Final

from overmind_executors.calls.timed_http import CallFailed, DeadlinePassed, Reply, TimedHttp
from overmind_executors.contract import ExecutionFailed, ModelEndpoint
from overmind_executors.trace_context import HEADER

# A call may wait for a worker that long beyond its own time.
QUEUE_S: Final = 30.0
CONNECT_S: Final = 15.0
_MAX_KEY_BYTES: Final = 16 << 10


class ClusterHttp:
    """
    Posts on the workers of a pool; has the methods of `TimedHttp`.

    Args:
        pool: any executor whose workers have this package.
        key_file: a path on the workers, empty for no key.
        close: gives the pool back.
    """

    def __init__(self, pool: Executor, key_file: str, close: Callable[[], object]) -> None:
        self._pool = pool
        self._key_file = key_file
        self._close = close
        self._lock = threading.Lock()
        self._running: set[Future[Reply]] = set()

    def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_s: float, traceparent: str = ""
    ) -> Reply:
        """See TimedHttp. `Authorization` is the workers' business."""
        plain = {name: value for name, value in headers.items() if name != "Authorization"}
        if traceparent:
            plain[HEADER] = traceparent
        try:
            future = self._pool.submit(post_there, _Call(url, body, plain, timeout_s, self._key_file))
        except RuntimeError as error:
            raise CallFailed("the cluster takes no calls any more") from error
        with self._lock:
            self._running.add(future)
        try:
            return future.result(timeout_s + QUEUE_S)
        except CallFailed:
            raise
        except TimeoutError:
            future.cancel()
            raise DeadlinePassed("no worker of the cluster had the call done in time") from None
        except (CancelledError, Exception) as error:
            raise CallFailed(f"the cluster lost the call ({type(error).__name__})") from None
        finally:
            with self._lock:
                self._running.discard(future)

    def cut_after(self, seconds: float) -> None:
        """Give running calls *seconds* seconds, then let go of them; a worker ends what it has begun."""
        with self._lock:
            running = list(self._running)
        wait(running, timeout=seconds)
        for future in running:
            future.cancel()

    def close(self) -> None:
        """Give the pool back."""
        self._close()


class _Call:
    """What a worker is sent. Shows nothing of it, since workers log what they were sent when it fails."""

    def __init__(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float, key_file: str) -> None:
        self.url, self.body, self.headers = url, body, headers
        self.timeout_s, self.key_file = timeout_s, key_file

    def __repr__(self) -> str:
        return "<call>"


_http = TimedHttp()


def post_there(call: _Call) -> Reply:
    """Runs on a worker: the answer to *call*; raises what `TimedHttp.post` raises."""
    headers = dict(call.headers)
    if call.key_file:
        headers["Authorization"] = f"Bearer {_key(call.key_file)}"
    return _http.post(call.url, body=call.body, headers=headers, timeout_s=call.timeout_s)


def _key(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_KEY_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CallFailed(f"a worker cannot read the model's key ({type(error).__name__})") from None


def connect(endpoint: ModelEndpoint, *, timeout_s: float = CONNECT_S) -> ClusterHttp:
    """
    A way through the cluster of *endpoint*.

    Raises:
        ExecutionFailed: there is none, or the package `distributed` is not installed here.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ExecutionFailed(
            "dask_scheduler is set, but not installed: pip install 'overmind-agent[distributed]'"
        ) from error
    try:
        client: Any = Client(endpoint.dask_scheduler, timeout=timeout_s, set_as_default=False)  # type: ignore[no-untyped-call]  # its own
    except (OSError, TimeoutError) as error:
        raise ExecutionFailed(
            f"the cluster of model {endpoint.name} is out of reach", reason="cluster_unavailable"
        ) from error
    pool = client.get_executor(pure=False, retries=0)

    def close() -> None:
        with contextlib.suppress(Exception):
            pool.shutdown(wait=False)
        client.close()

    return ClusterHttp(pool, endpoint.api_key_file, close)
