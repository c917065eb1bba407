"""The application: all dialects over one plane, and how each of them says no."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from overmind_controlplane.answering import error_bodies
from overmind_controlplane.answering.bodies import describe
from overmind_controlplane.lab import routes as lab
from overmind_controlplane.optimisation import routes as optimisation
from overmind_controlplane.page import routes as page
from overmind_controlplane.page.rendering import refusal
from overmind_controlplane.plane import Plane
from overmind_controlplane.pull import access as pull_access
from overmind_controlplane.pull import addresses, artifacts, heartbeats, model_files, next_jobs, reports
from overmind_controlplane.pull import agents as pull_agents
from overmind_controlplane.pull import jobs as pull_jobs
from overmind_controlplane.pull import logs as pull_logs
from overmind_controlplane.record import audit
from overmind_controlplane.refusals import Invalid, Refused, Unavailable
from overmind_controlplane.serving import blob_routes, metrics
from overmind_controlplane.serving.auditing import Audited
from overmind_controlplane.serving.guard import Guard
from overmind_controlplane.serving.limits import Limits
from overmind_controlplane.serving.plain import Plain
from overmind_controlplane.serving.roles import must_be_declared
from overmind_controlplane.serving.traffic import Traffic

log = structlog.get_logger(__name__)

# A route is found by trying one after the other: those that are called most come first.
_PARTS: Final = (
    pull_jobs,
    next_jobs,
    heartbeats,
    reports,
    pull_agents,
    pull_logs,
    model_files,
    artifacts,
    addresses,
    pull_access,
    lab,
    optimisation,
    blob_routes,
    metrics,
    page,
)
ROUTERS: Final = tuple(part.router for part in _PARTS)


def build_app(plane: Plane) -> FastAPI:
    """
    The application over *plane*; starting it starts the sweep, stopping it stops all that.

    Raises:
        UndeclaredRole: a route does not say who may call it.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        plane.waiting.open()
        plane.start()
        yield
        plane.stop()

    app = _Described(
        title="Overmind control plane",
        version="1",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.plane, app.state.traffic = plane, Traffic()
    must_be_declared(*ROUTERS)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(SQLAlchemyError, _database_failed)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    if plane.settings.is_plain:
        app.add_middleware(Plain)
    app.add_middleware(Limits, rate_per_s=plane.settings.rate_per_s, clock=time.monotonic)
    app.add_middleware(Guard, allowed_hosts=plane.settings.allowed_hosts, traffic=app.state.traffic)
    app.add_middleware(Audited, database=plane.database)
    return app


class _Described(FastAPI):
    """FastAPI, with the bodies that routes read by themselves in its OpenAPI page."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if not self.openapi_schema:
            self.openapi_schema = describe(super().openapi())
        return self.openapi_schema


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for nothing else
    if (call := audit.present_call()) is not None:
        call.code = error.code
    for_browser = refusal(request, error)
    body = error_bodies.body(request.url.path, error)
    return for_browser or JSONResponse(body, error.http_status, headers=error.headers)


def _database_failed(request: Request, error: Exception) -> Response:
    """503 while the database is away, so that the caller repeats the call; anything else is a fault of ours."""
    plane: Plane = request.app.state.plane
    if not plane.database.store.is_away(error):
        raise error
    log.warning("database.away", error=type(error).__name__)
    return _refused(request, Unavailable("the database cannot be reached at this moment; repeat the call"))


def _not_valid(request: Request, error: Exception) -> Response:
    """A query or a header that does not fit; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    kept = [{name: line[name] for name in ("loc", "msg", "type")} for line in error.errors()]
    for_browser = refusal(request, Invalid(*kept))
    return for_browser or JSONResponse({"detail": kept}, 422)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    told = Refused(str(error.detail))
    told.http_status = error.status_code
    if (for_browser := refusal(request, told)) is not None:
        return for_browser
    body = error_bodies.body(request.url.path, told)
    return JSONResponse(body, error.status_code, headers=error.headers)
