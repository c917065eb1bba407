"""
`GET /metrics`: what this server counted, and the queue of the caller's project, in the form of Prometheus.

Who reads it has an administrator's token. Requests are those of all projects; jobs and agents are those of the
token's own, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from overmind_agent import __version__
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.answering.routing import Operator, ThePlane
from overmind_controlplane.caller import Caller
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import Agent, Job, Project, now
from overmind_controlplane.refusals import Unavailable
from overmind_controlplane.serving.traffic import Traffic

router = APIRouter(tags=["metrics"])

PREFIX: Final = "overmind_control_plane_"
# An agent that was not heard of for so long is not there.
SILENT: Final = timedelta(seconds=90)

METRICS: Final = {
    "build_info": ("gauge", ("version",), "Always 1; which version this is."),
    "requests": ("counter", ("dialect", "code"), "Requests that were answered, by dialect and class of status."),
    "request_seconds": ("counter", ("dialect",), "How long they took together, held ones included."),
    "held_requests": ("gauge", (), "Requests that are held open until something happens."),
    "batches": ("counter", ("kind",), "Times that calls were answered together, by what they ask."),
    "batched_calls": ("counter", ("kind",), "Calls that were answered in these batches."),
    "jobs": ("gauge", ("project", "status", "job_type"), "Jobs of the project that are not final."),
    "oldest_waiting_seconds": ("gauge", ("project",), "For how long the oldest of those that wait has waited."),
    "agents": ("gauge", ("project", "state"), "Agents of the project that were heard of in the last 90 seconds."),
}
"""Kind, labels and meaning by name below the prefix; `_total` comes with a counter."""

OPEN: Final = tuple(
    status for status, facts in LIFECYCLE.items() if not facts.is_final and status is not Status.UNKNOWN
)

Sample = tuple[str, tuple[str, ...], float]


@router.get("/metrics", response_class=Response)
async def metrics(caller: Operator, plane: ThePlane, request: Request) -> Response:
    """Figures of this server, and of the token's project."""
    samples = await run_sync(
        lambda: [*_of_the_server(plane, request.app.state.traffic), *_of_the_project(plane, caller)]
    )
    content_type, body = _page(samples, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


def _of_the_server(plane: Plane, traffic: Traffic) -> Iterator[Sample]:
    yield "build_info", (__version__,), 1
    yield "held_requests", (), plane.waiting.held
    for (dialect, code), number in sorted(traffic.requests.copy().items()):
        yield "requests", (dialect, code), number
    for dialect, seconds in sorted(traffic.seconds.copy().items()):
        yield "request_seconds", (dialect,), seconds
    kinds = {
        "offers": plane.asking.batched,
        "reports": plane.reports.batched,
        "tokens": plane.callers.batched,
    }
    for kind, (batches, calls) in kinds.items():
        yield "batches", (kind,), batches
        yield "batched_calls", (kind,), calls


def _of_the_project(plane: Plane, caller: Caller) -> Iterator[Sample]:
    with plane.database.read() as session:
        name = session.scalar(select(Project.name).where(Project.id == caller.project_id)) or ""
        for status, job_type, number in _queue(session, caller.project_id):
            yield "jobs", (name, status.value, job_type or "function"), number
        oldest = session.scalar(
            select(func.min(Job.created)).where(
                Job.project_id == caller.project_id,
                Job.status == Status.PENDING,
                Job.is_archived.is_(False),
                Job.is_deleted.is_(False),
            )
        )
        yield "oldest_waiting_seconds", (name,), max(0.0, (now() - oldest).total_seconds()) if oldest else 0.0
        states = Counter({"ready": 0, "draining": 0, "not_accepting": 0})
        heard = Agent.project_id == caller.project_id, Agent.seen_at > now() - SILENT
        for agent in session.scalars(select(Agent).where(*heard)):
            states["draining" if agent.draining else "not_accepting" if agent.not_accepting else "ready"] += 1
        for state, number in states.items():
            yield "agents", (name, state), number


def _queue(session: Session, project_id: str) -> list[tuple[Status, str | None, int]]:
    """How many jobs of each open status and type; an index has them, so the final ones are not looked at."""
    counted = (
        select(Job.status, Job.job_type, func.count())
        .where(Job.project_id == project_id, Job.status.in_(OPEN))
        .where(Job.is_archived.is_(False), Job.is_deleted.is_(False))
        .group_by(Job.status, Job.job_type)
    )
    return [(status, job_type, number) for status, job_type, number in session.execute(counted)]


def _page(samples: list[Sample], accept: str) -> tuple[str, bytes]:
    """Content type and body. Raises Unavailable when the library is not installed."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, exposition
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    except ImportError as error:
        raise Unavailable("metrics need prometheus-client: pip install 'overmind-agent[controlplane]'") from error
    families = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    made = {}
    for name, (kind, labels, about) in METRICS.items():
        made[name] = families[kind](PREFIX + name, about, labels=labels)
    for name, values, number in samples:
        made[name].add_metric(values, number)

    class Found:
        """A collector, as the registry wants one."""

        def collect(self) -> list[object]:
            return list(made.values())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Found())
    ProcessCollector(registry=registry)
    try:
        encode, content_type = exposition.choose_encoder(accept)
    except (TypeError, ValueError):  # a version in it that is no number
        encode, content_type = exposition.choose_encoder("")
    return content_type, encode(registry)
