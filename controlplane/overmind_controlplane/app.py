"""The application: all dialects over one plane, and how each of them says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from overmind_controlplane import blob_routes, lab, pull_agents, pull_files, pull_jobs
from overmind_controlplane.bodies import describe
from overmind_controlplane.guard import Guard
from overmind_controlplane.plane import Plane
from overmind_controlplane.refusals import Invalid, Refused, WrongFields


def build_app(plane: Plane) -> FastAPI:
    """The application over *plane*; starting it starts the sweep, stopping it stops all that."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        plane.waiting.open()
        plane.sweeper.start()
        yield
        plane.sweeper.stop()
        plane.database.close()

    app = _Described(title="Overmind control plane", version="1", lifespan=lifespan, redirect_slashes=False)
    app.state.plane = plane
    for router in (pull_agents.router, pull_jobs.router, pull_files.router, lab.router, blob_routes.router):
        app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Guard, allowed_hosts=plane.settings.allowed_hosts)
    return app


class _Described(FastAPI):
    """FastAPI, with the bodies that routes read by themselves in its OpenAPI page."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if not self.openapi_schema:
            self.openapi_schema = describe(super().openapi())
        return self.openapi_schema


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for nothing else
    return JSONResponse(_body(error), error.http_status, headers=error.headers)


def _body(error: Refused) -> dict[str, Any]:
    if isinstance(error, WrongFields):
        return dict(error.fields)
    detail: Any = error.problems if isinstance(error, Invalid) else error.detail
    return {"detail": detail, **({"code": error.code} if error.code else {}), **error.more}


def _not_valid(_request: Request, error: Exception) -> Response:
    """A query or a header that does not fit; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    kept = [{name: line[name] for name in ("loc", "msg", "type")} for line in error.errors()]
    return JSONResponse({"detail": kept}, 422)


def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
