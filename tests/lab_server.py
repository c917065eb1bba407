"""
An Overmind Lab server that is nothing but records: plain merges, last write wins, no guard, no other dialect.

    with LabServer() as server:
        job_id = server.submit({"prompt": "…"})
        server.script("PATCH", Reply(503), LOST)
        ... talk to server.url ...
        assert "completed" == server.jobs[job_id]["status"]
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

SCORES = ("baseline_score", "best_score", "improvement")
ROW = ("id", "created_at", "updated_at", "agent", "project", "job_type", "status", "prompt_slug", *SCORES)
"""The keys of a line of the list that matter here; `result` is not among them."""


@dataclass(frozen=True)
class Reply:
    """Answer so, and do nothing."""

    status: int
    body: Any = field(default_factory=lambda: {"detail": "not now"})
    content_type: str = "application/json"


class Lost:
    """Take effect, then close the connection."""


LOST = Lost()
Step = Reply | Lost | Callable[[], object]


class LabServer:
    """
    Attributes:
        jobs: the records, in the order in which they were made.
        datasets: datapoints by the id of their dataset.
        calls: method and path with query of every request, in the order of arrival.
        page_size: of the list.
        orderings: the values that `ordering` takes; any other is a 400.
        without_body: answer a PATCH with 204.
        keeps_iterations: whether it has a place for the iterations of its jobs.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.datasets: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[tuple[str, str]] = []
        self.page_size = 50
        self.orderings = {"created_at"}
        self.without_body = False
        self.keeps_iterations = True
        self.token = "ovr_lab"
        self._scripts: dict[str, deque[Step]] = defaultdict(deque)
        self._lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.lab = self  # type: ignore[attr-defined]
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> LabServer:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def submit(self, parameters: Any, *, job_type: str = "inference", **fields: Any) -> str:
        """The id of a new record that waits."""
        job_id = str(uuid.uuid4())
        at = f"2026-01-01T00:00:{len(self.jobs):02}Z"
        record = dict.fromkeys(ROW) | {"id": job_id, "created_at": at, "updated_at": at, "celery_task_id": ""}
        result = {"parameters": parameters, "validation_stats": {"spans": 3}}
        self.jobs[job_id] = record | {"job_type": job_type, "status": "pending", "result": result} | fields
        return job_id

    def script(self, method: str, *steps: Step) -> None:
        """What happens in the next requests of *method*; a callable is called before the request is served."""
        self._scripts[method].extend(steps)

    def written(self, job_id: str) -> list[str]:
        """The requests that wrote to a job."""
        return [method for method, path in self.calls if path == f"/api/jobs/{job_id}/" and method != "GET"]

    # ------------------------------------------------------------------------------------------ serving

    def answer(self, method: str, target: str, token: str | None, body: Any) -> Reply | Lost:
        """What a request gets."""
        with self._lock:
            self.calls.append((method, target))
            step = self._scripts[method].popleft() if self._scripts[method] else None
        if isinstance(step, Reply):
            return step
        if callable(step):
            step()  # outside of the lock: it may call the server itself
        with self._lock:
            if (method, target) == ("GET", "/health"):
                return Reply(200, {"status": "healthy"})
            if token != self.token:
                return Reply(401, {"detail": "Invalid API key."})
            reply = self._serve(method, urlsplit(target).path, parse_qs(urlsplit(target).query), body)
            return LOST if isinstance(step, Lost) else reply

    def _serve(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Reply:
        if (method, path) == ("GET", "/api/auth/me/"):
            return Reply(200, {"id": 7, "email": "someone@example.org", "email_verified": True})
        if (method, path) == ("GET", "/api/jobs/"):
            return self._list({name: values[-1] for name, values in query.items()})
        if path.endswith("/datapoints/") and (points := self.datasets.get(path.split("/")[3])) is not None:
            return self._page(points, path, {name: values[-1] for name, values in query.items()})
        if (method, path) == ("POST", "/api/job-iterations/") and self.keeps_iterations:
            self.jobs[body["job"]].setdefault("iterations", []).append(body)
            return Reply(201, body)
        record = self.jobs.get(path.removeprefix("/api/jobs/").removesuffix("/"))
        if record is None or method not in ("GET", "PATCH"):
            return Reply(404, {"detail": "Not found."})
        if method == "PATCH":
            record |= body
        return Reply(204, None) if method == "PATCH" and self.without_body else Reply(200, record)

    def _list(self, query: dict[str, str]) -> Reply:
        if (ordering := query.get("ordering", "created_at")) not in self.orderings:
            return Reply(400, {"ordering": [f"cannot order by {ordering}"]})
        wanted = {name: query[name] for name in ("status", "job_type") if name in query}
        found = [{name: job[name] for name in ROW} for job in self.jobs.values() if wanted.items() <= job.items()]
        return self._page(found, "/api/jobs/", query)

    def _page(self, found: list[dict[str, Any]], path: str, query: dict[str, str]) -> Reply:
        number = int(query.get("page", 1))
        start, end = (number - 1) * self.page_size, number * self.page_size
        following = f"{self.url}{path}?{urlencode(query | {'page': str(number + 1)})}"
        page = {"count": len(found), "next": following if end < len(found) else None, "results": found[start:end]}
        return Reply(200, page)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or self.headers.get("X-Api-Key")
        reply = self.server.lab.answer(self.command, self.path, token, body)  # type: ignore[attr-defined]
        if isinstance(reply, Lost):
            self.close_connection = True
            return
        raw = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        raw = b"" if reply.status == 204 else raw
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_PATCH = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
