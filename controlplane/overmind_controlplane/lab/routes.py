"""
The Overmind Lab dialect under `/api/`: its small routes, and what holds for all of its paths.

Paths end in a slash; a GET without it is redirected, as Django does, and any other method is 404 and says why.
Errors are 400 with a map of fields, else `{"detail": …}`; never 422.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from overmind_controlplane.answering.routing import OPEN, AnyCaller, answer_json
from overmind_controlplane.lab import agents as lab_agents
from overmind_controlplane.lab import datasets as lab_datasets
from overmind_controlplane.lab import iterations as lab_iterations
from overmind_controlplane.lab import jobs as lab_jobs
from overmind_controlplane.refusals import NotFound

router = APIRouter(tags=["Overmind Lab"])
for part in (lab_jobs, lab_iterations, lab_agents, lab_datasets):
    router.include_router(part.router)


@router.get("/health", dependencies=[OPEN])
def health() -> Response:
    """Whether the server answers; needs no token."""
    return answer_json({"status": "healthy"})


@router.get("/api/auth/me/")
def me(caller: AnyCaller) -> Response:
    """Who the token belongs to: the cheapest check of one."""
    email = f"token-{caller.number}@localhost"
    told = {"id": caller.number, "email": email, "email_verified": False, "project": caller.project_id}
    return answer_json(told)  # the project is ours


_WRITES: Final = ["POST", "PUT", "PATCH", "DELETE"]
_COLLECTIONS: Final = ("jobs", "job-iterations", "agents", "datasets")
_WITHOUT_SLASH: Final = tuple(
    path
    for name in _COLLECTIONS
    for path in (f"/api/{name}", f"/api/{name}/{{_id}}", f"/api/{name}/{{_id}}/{{_part}}")
)


def add_slash(request: Request) -> Response:
    """To the same path with a slash."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{request.url.path}/{query}", status_code=301)


def refuse_without_slash(request: Request) -> Response:
    """A body cannot be redirected."""
    raise NotFound(f"paths of this API end in a slash: {request.url.path}/")


for path in (*_WITHOUT_SLASH, "/api/auth/me"):
    router.add_api_route(path, add_slash, methods=["GET"], dependencies=[OPEN], include_in_schema=False)
for path in _WITHOUT_SLASH:
    router.add_api_route(path, refuse_without_slash, methods=_WRITES, dependencies=[OPEN], include_in_schema=False)
