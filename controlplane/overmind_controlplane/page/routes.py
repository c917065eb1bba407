"""The routes of the page. All of them only read, but for the two that begin and end a visit."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.answering import bodies
from overmind_controlplane.answering.routing import OPEN, PageNumber, ThePlane
from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.command_line.facts import wanted
from overmind_controlplane.jobs.waiting import log_topic, project_topic
from overmind_controlplane.page import drawing, live, rendering, seen, verdicts, visits
from overmind_controlplane.page.headline import headlines, part_of, score_lines
from overmind_controlplane.page.values import JobSeen
from overmind_controlplane.page.visits import Administrator, Person
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import now
from overmind_controlplane.refusals import NotAuthenticated, NotFound, Refused

router = APIRouter(include_in_schema=False, default_response_class=Response)

MAX_FORM_BYTES: Final = 4096
_HOME: Final = "/jobs"
_OWN_ADDRESS: Final = re.compile(r"/(jobs(/[0-9a-f-]{36})?|agents|tokens)")

WaitS = Annotated[float, Query(ge=0, le=3600)]
Kind = Annotated[str, Query(max_length=255)]
StatusWord = Annotated[str, Query(max_length=32)]


@router.get("/", dependencies=[OPEN])
async def home() -> Response:
    """To the jobs."""
    return RedirectResponse(_HOME, 303, headers=dict(rendering.HEADERS))


@router.get("/static/{name}", dependencies=[OPEN])
async def static(name: str) -> Response:
    """A style sheet, a script or a picture of ours."""
    found = rendering.static_file(name)
    if found is None:
        raise NotFound("there is no such file")
    return found


@router.get("/sign-in", dependencies=[OPEN])
async def sign_in_form(to: str = _HOME) -> Response:
    """Asks for a token."""
    return rendering.page("sign_in.html", None, to=_own(to), wrong="")


@router.post("/sign-in", dependencies=[OPEN])
async def sign_in(request: Request, plane: ThePlane) -> Response:
    """Begin a visit, and go on to where the visitor wanted to go."""
    visits.must_be_own(request)
    form = parse_qs((await bodies.read(request, MAX_FORM_BYTES)).decode("utf-8", "replace"))
    to = _own(form.get("to", [_HOME])[0])
    try:
        caller = await plane.callers.who(form.get("token", [""])[0].strip())
        caller.must_be(Role.SUBMIT)
    except Refused as refusal:
        return rendering.page("sign_in.html", None, refusal.http_status, to=to, wrong=refusal.detail)
    response = RedirectResponse(to, 303, headers=dict(rendering.HEADERS))
    visits.begin(request, response, plane, caller)
    return response


@router.post("/sign-out", dependencies=[OPEN])
async def sign_out(request: Request) -> Response:
    """End the visit in this browser."""
    visits.must_be_own(request)
    response = RedirectResponse("/sign-in", 303, headers=dict(rendering.HEADERS))
    visits.end(response)
    return response


@router.get("/docs", dependencies=[OPEN])
async def describe(request: Request) -> Response:
    """What the HTTP interface has, read off its own description; nothing is fetched from elsewhere for it."""
    groups: dict[str, list[dict[str, str]]] = {}
    for path, verbs in request.app.openapi()["paths"].items():
        for verb, told in verbs.items():
            group = (told.get("tags") or ["others"])[0]
            said = told.get("description", "").partition("\n")[0]
            groups.setdefault(group, []).append({"verb": verb.upper(), "path": path, "said": said})
    return rendering.page("interface.html", None, groups=groups)


# -------------------------------------------------------------------------------------------------- jobs


@router.get("/jobs")
def list_jobs(
    caller: Person, plane: ThePlane, job_type: Kind = "", status: StatusWord = "", page: PageNumber = 1
) -> Response:
    """The project's jobs, the newest first."""
    asked = {"job_type": job_type, "status": status, "page": page}
    with plane.database.read() as session:
        kinds = seen.kinds(session, caller)
    part = _jobs_part(plane, caller, job_type, status, page)
    words = [name.value.lower() for name in LIFECYCLE if name is not Status.UNKNOWN]
    return rendering.page(
        "jobs.html",
        caller,
        parts=_digested({"jobs": part}),
        query=urlencode(asked),
        kinds=kinds,
        words=words,
        job_type=job_type,
        chosen=status.lower(),
    )


@router.get("/jobs/live")
def follow_jobs(
    request: Request,
    caller: Person,
    plane: ThePlane,
    job_type: Kind = "",
    status: StatusWord = "",
    page: PageNumber = 1,
    wait_s: WaitS = 600,
) -> Response:
    """The same list as it changes."""
    part = partial(_jobs_part, plane, job_type=job_type, status=status, page=page)
    look = _checked(request, plane, caller, lambda who: live.Look({"jobs": part(who)}))
    return _stream(plane, look, [project_topic(project) for project in caller.projects], wait_s)


def _jobs_part(plane: Plane, caller: Caller, job_type: str, status: str, page: int) -> str:
    try:
        statuses = wanted(status) if status else frozenset()
    except ValueError as error:
        raise Refused(str(error)) from error
    with plane.database.read() as session:
        lines, has_older = seen.jobs(session, caller, job_type, statuses, page)
    kept = {"job_type": job_type, "status": status}
    numbers = ({"newer": page - 1} if page > 1 else {}) | ({"older": page + 1} if has_older else {})
    turns = {name: f"/jobs?{urlencode(kept | {'page': number})}" for name, number in numbers.items()}
    return rendering.fragment("jobs_part.html", lines=lines, page=page, turns=turns)


@router.get("/jobs/{job_id}")
def show_job(job_id: str, caller: Person, plane: ThePlane) -> Response:
    """One job."""
    told, parts = _job(plane, caller, job_id)
    text, offset = live.log_end(plane, job_id)
    log = {"text": text, "offset": offset, "shown": live.LOG_SHOWN_BYTES}
    return rendering.page("job.html", caller, job=told, parts=_digested(parts), log=log)


@router.get("/jobs/{job_id}/live")
def follow_job(
    request: Request,
    job_id: str,
    caller: Person,
    plane: ThePlane,
    offset: Annotated[int, Query(ge=0, le=1 << 50)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, le=1 << 50)] = None,
    wait_s: WaitS = 600,
) -> Response:
    """The same job as it goes on, and its log from *offset* on."""
    _job(plane, caller, job_id)
    log = live.LogReader(partial(plane.logs.read, job_id), offset if last_event_id is None else last_event_id)

    def looked(who: Caller) -> live.Look:
        told, parts = _job(plane, who, job_id)
        return live.Look(parts, told.line.is_final)

    return _stream(plane, _checked(request, plane, caller, looked), [log_topic(job_id)], wait_s, log)


def _job(plane: Plane, caller: Caller, job_id: str) -> tuple[JobSeen, dict[str, str]]:
    with plane.database.read() as session:
        told = seen.job(plane, session, caller, job_id)
    before = told.parameters.get("prompt") if isinstance(told.parameters, dict) else None
    drawn = {
        "course": drawing.course(told.steps),
        "headlines": [
            *score_lines(told.scores, told.scored_on, part_of(told.outcome, "test")),
            *headlines(told.outcome),
        ],
        "bars": drawing.bars(told.outcome.get("distribution")),
        "backtest": verdicts.backtest(told.backtest),
        "diff": verdicts.changes(before, told.best),
        "width": drawing.WIDTH,
        "height": drawing.HEIGHT,
        "left": drawing.LEFT,
    }
    names = ("state", "history", "outcome", "made")
    return told, {name: rendering.fragment(f"job_{name}.html", job=told, **drawn) for name in names}


@router.get("/jobs/{job_id}/log")
def download_log(job_id: str, caller: Person, plane: ThePlane) -> Response:
    """The whole log, as a file."""
    with plane.database.read() as session:
        job = plane.board.get(session, caller, job_id)
    path = plane.logs.path(job.id)
    if not path.exists():
        raise NotFound("the job has written no log")
    return _download(path, f"{job.id}.log")


@router.get("/jobs/{job_id}/files/{artifact_id}")
def download_file(job_id: str, artifact_id: str, caller: Person, plane: ThePlane) -> Response:
    """A result file, never shown: what a job made is only ever given away."""
    with plane.database.read() as session:
        artifact, revision = seen.result_file(plane, session, caller, job_id, artifact_id)
    path = plane.blobs.path(revision.project_id, revision.content_sha)
    if not path.is_file():
        raise NotFound("the file's bytes are not there")
    return _download(path, str(rendering.harmless(revision.name or artifact.id)).replace("/", "_"))


def _download(path: Path, name: str) -> Response:
    named = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    headers = {**rendering.DOWNLOAD_HEADERS, **named}
    if path.stat().st_size == 0:  # FileResponse sends no empty body to a client that asks for a range
        return Response(b"", media_type="application/octet-stream", headers=headers)
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


# ---------------------------------------------------------------------------------------- agents, tokens


@router.get("/agents")
def list_agents(caller: Person, plane: ThePlane) -> Response:
    """The project's agents, and what they run."""
    return rendering.page("agents.html", caller, parts=_digested({"agents": _agents_part(plane, caller)}))


@router.get("/agents/live")
def follow_agents(request: Request, caller: Person, plane: ThePlane, wait_s: WaitS = 600) -> Response:
    """The same list as it changes."""
    look = _checked(request, plane, caller, lambda who: live.Look({"agents": _agents_part(plane, who)}))
    return _stream(plane, look, [project_topic(project) for project in caller.projects], wait_s)


def _agents_part(plane: Plane, caller: Caller) -> str:
    with plane.database.read() as session:
        found = seen.agents(session, caller)
    return rendering.fragment("agents_part.html", agents=found)


@router.get("/tokens")
def list_tokens(caller: Administrator, plane: ThePlane) -> Response:
    """The project's tokens, without their secrets, which nobody has."""
    with plane.database.read() as session:
        found = seen.tokens(session, caller)
    return rendering.page("tokens.html", caller, tokens=found, at=now())


# ------------------------------------------------------------------------------------------------ shared


def _own(to: str) -> str:
    return to if _OWN_ADDRESS.fullmatch(to) else _HOME


def _digested(parts: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (html, live.digest(html)) for name, html in parts.items()}


def _checked(
    request: Request, plane: Plane, caller: Caller, look: Callable[[Caller], live.Look]
) -> Callable[[], live.Look]:
    """*look*, with the visit looked up again each time: a stream ends when its token does."""
    cookie = request.cookies.get(visits.COOKIE, "")

    def checked() -> live.Look:
        if not cookie:  # a token in a header, which was checked when the call came
            return look(caller)
        who = visits.visitor_of(plane, cookie)
        if who.token_id != caller.token_id:
            raise NotAuthenticated("somebody else signed in")
        return look(who)

    return checked


def _stream(
    plane: Plane, look: Callable[[], live.Look], topics: list[str], wait_s: float, log: live.LogReader | None = None
) -> Response:
    told = live.events(plane, look, topics, wait_s, log)
    return StreamingResponse(told, media_type="text/event-stream", headers={**rendering.HEADERS, **live.HEADERS})
