"""What the page shows of the record, read into plain values while the transaction is open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from overmind_agent.jobs import FUNCTION_SCOPE, job_type_of
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.jobs import agents as registry
from overmind_controlplane.lab import records as lab_records
from overmind_controlplane.page.values import AgentSeen, JobLine, JobSeen, Made, Moment, Step
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import (
    Agent,
    AgentEvent,
    Artifact,
    Demand,
    Iteration,
    Job,
    JobEvent,
    Revision,
    Token,
    now,
)
from overmind_controlplane.refusals import NotFound
from overmind_controlplane.storage import files

PAGE_SIZE: Final = 25
MAX_AGENTS: Final = 200


def jobs(
    session: Session, caller: Caller, kind: str, statuses: Collection[Status], page: int
) -> tuple[list[JobLine], bool]:
    """
    One page of the caller's jobs, the newest first, and whether there are older ones.

    They are not counted: with a hundred thousand jobs that would cost every viewer a look at all, every second.
    """
    rows = _mine(caller).order_by(Job.number.desc())
    if kind:
        rows = rows.where((Job.job_type == kind) | (Job.function_name == kind))
    if statuses:
        rows = rows.where(Job.status.in_(statuses))
    found = list(session.scalars(rows.limit(PAGE_SIZE + 1).offset((page - 1) * PAGE_SIZE)))
    return _lines(session, found[:PAGE_SIZE]), len(found) > PAGE_SIZE


def kinds(session: Session, caller: Caller) -> list[str]:
    """The types and functions that the caller's jobs have."""
    named = select(Demand.function_name).where(Demand.project_id.in_(caller.projects))
    return sorted({job_type_of(name) for name in session.scalars(named.distinct().limit(200))})


def job(plane: Plane, session: Session, caller: Caller, job_id: str) -> JobSeen:
    """
    One job of the caller's.

    Raises:
        NotFound: there is none of that id.
    """
    row = plane.board.get(session, caller, job_id)
    told = lab_records.result(session, plane.blobs, row)
    outcome = {**told} if isinstance(told, Mapping) else {"result": told}
    parameters = outcome.pop("parameters", None)
    for name in ("files", "progress", "agent_run"):
        outcome.pop(name, None)
    elsewhere = _ELSEWHERE | ({"avg_score"} if row.best_score is not None else frozenset())
    facts = {name: value for name, value in outcome.items() if name not in elsewhere and _is_short(value)}
    rows = _rows_of(outcome)
    return JobSeen(
        facts=facts,
        line=_lines(session, [row])[0],
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        priority=row.priority,
        labels=row.labels,
        finished=row.finished_at,
        history=_history(session, row),
        made=[_made(*pair) for pair in files.results(session, row.file_id)],
        steps=_steps(session, row, outcome),
        parameters=parameters,
        outcome=outcome,
        scores={name: value for name in SCORES if (value := getattr(row, name)) is not None},
        scored_on=rows.get(str(outcome.get("scored_on")), ""),
        chosen_on=rows.get("validation", ""),
        best=row.best_agent_code,
        report=row.report_markdown,
        backtest=row.backtest_results,
    )


def _rows_of(outcome: Mapping[str, Any]) -> Mapping[str, str]:
    """What the two kinds of rows are called whose scores a search tells, with how many there were."""
    test, used = outcome.get("test"), outcome.get("data_sources_used")
    held_out = _count(test.get("compared")) if isinstance(test, Mapping) else None
    chosen = _count(used.get("validation")) if isinstance(used, Mapping) else None
    return {
        "holdout": f"{held_out} held-out rows" if held_out is not None else "",
        "validation": f"{chosen} validation rows" if chosen is not None else "",
    }


def _is_short(value: Any) -> bool:
    return not isinstance(value, bool) and (
        isinstance(value, int | float) or (isinstance(value, str) and 0 < len(value) < 300)
    )


SCORES: Final = ("baseline_score", "best_score", "improvement")
_ELSEWHERE: Final = frozenset({*SCORES, "score_scale", "scored_on", "best_agent_code", "report_markdown"})


def result_file(
    plane: Plane, session: Session, caller: Caller, job_id: str, artifact_id: str
) -> tuple[Artifact, Revision]:
    """
    A result file of a job.

    Raises:
        NotFound: there is no such job, or it has no such file.
    """
    row = plane.board.get(session, caller, job_id)
    for artifact, revision in files.results(session, row.file_id):
        if artifact.id == artifact_id:
            return artifact, revision
    raise NotFound("File not found")


def agents(session: Session, caller: Caller) -> list[AgentSeen]:
    """The caller's agents, who was heard of last first, with what they run."""
    rows = select(Agent).where(Agent.project_id.in_(caller.projects)).order_by(Agent.seen_at.desc())
    found = list(session.scalars(rows.limit(MAX_AGENTS)))
    names = _names(session, [agent.id for agent in found])
    held = [status for status, stage in LIFECYCLE.items() if stage.is_held]
    running = _mine(caller).where(Job.holder.in_(list(names)), Job.status.in_(held)).order_by(Job.number)
    rows_run = list(session.scalars(running))
    lines = dict(zip((row.id for row in rows_run), _lines(session, rows_run), strict=True))
    at = now()
    return [
        AgentSeen(
            id=agent.id,
            name=names[agent.id],
            version=agent.agent_version,
            host_os=agent.host_os,
            slots=agent.slots,
            is_draining=agent.draining,
            not_accepting=agent.not_accepting,
            seen_at=agent.seen_at,
            silent_s=(at - agent.seen_at).total_seconds(),
            capabilities=[*(str(word) for word in agent.capabilities), *_functions(agent)],
            jobs=[lines[row.id] for row in rows_run if row.holder == agent.id],
        )
        for agent in found
    ]


def _functions(agent: Agent) -> list[str]:
    """The functions of its host: each is a module of its own name."""
    return [f"function:{name}" for name, _ in agent.modules if not name.startswith(FUNCTION_SCOPE)]


def tokens(session: Session, caller: Caller) -> list[Token]:
    """The tokens of the caller's project, the newest first; of their secrets nothing is known."""
    rows = select(Token).where(Token.project_id == caller.project_id).order_by(Token.number.desc())
    return list(session.scalars(rows.limit(500)))


def _mine(caller: Caller) -> Select[Job]:
    mine = select(Job).where(Job.project_id.in_(caller.projects))
    return mine.where(Job.is_deleted.is_(False), Job.is_archived.is_(False))


def _names(session: Session, agent_ids: Collection[str]) -> dict[str, str]:
    """What people call these agents; the beginning of the id where nobody named one."""
    newest = (
        select(func.max(AgentEvent.number))
        .where(AgentEvent.agent_id.in_(agent_ids), AgentEvent.kind == registry.DISPLAY_NAME)
        .group_by(AgentEvent.agent_id)
    )
    named = session.scalars(select(AgentEvent).where(AgentEvent.number.in_(newest)))
    told = {event.agent_id: str(event.value.get("display_name") or "") for event in named}
    return {agent_id: told.get(agent_id) or agent_id[:8] for agent_id in agent_ids}


def _lines(session: Session, rows: Sequence[Job]) -> list[JobLine]:
    names = _names(session, {row.holder for row in rows if row.holder and not row.is_driven})
    return [_line(row, names.get(row.holder or "", "")) for row in rows]


def _line(row: Job, agent: str) -> JobLine:
    told = row.progress or (row.result or {}).get("progress") if isinstance(row.result, dict | None) else None
    progress = told if isinstance(told, Mapping) else {}
    failure = row.failure or {}
    return JobLine(
        id=row.id,
        kind=job_type_of(row.function_name),
        status=row.status,
        created=row.created,
        agent=agent,
        step=_count(progress.get("step")),
        total=_count(progress.get("total_steps")),
        doing=str(progress.get("step_name") or ""),
        score=row.best_score,
        reason=str(failure.get("reason") or "") if row.status is Status.FAILED else "",
        lasted_s=((row.finished_at or now()) - row.started_at).total_seconds() if row.started_at else None,
    )


def _count(told: Any) -> int | None:
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 1 << 53 else None


def _history(session: Session, row: Job) -> list[Moment]:
    lines = select(JobEvent).where(JobEvent.job_id == row.id).order_by(JobEvent.number.desc()).limit(200)
    events = list(session.scalars(lines))[::-1]
    names = _names(session, {event.agent_id for event in events if event.agent_id})
    ends: list[datetime | None] = [*(event.created for event in events[1:]), None]
    return [
        Moment(
            name=event.name,
            at=event.created,
            attempt=event.attempt,
            agent=names.get(event.agent_id or "", ""),
            message=event.message or "",
            reason=str((event.detail or {}).get("reason") or ""),
            lasted_s=(end - event.created).total_seconds() if end else None,
        )
        for event, end in zip(events, ends, strict=True)
    ]


def _made(artifact: Artifact, revision: Revision) -> Made:
    return Made(artifact.id, revision.name or artifact.id, revision.size, revision.sha256)


def _steps(session: Session, row: Job, outcome: Mapping[str, Any]) -> list[Step]:
    """The steps that were kept as such, else those that the outcome tells."""
    rows = select(Iteration).where(Iteration.job_id == row.id).order_by(Iteration.order, Iteration.number)
    kept = [
        {name: getattr(step, name) for name in ("iteration_name", "avg_score", "status", "description")}
        for step in session.scalars(rows.limit(500))
    ]
    told = outcome.get("iterations")
    return [_step(step) for step in kept or (told if isinstance(told, list) else []) if isinstance(step, Mapping)]


def _step(told: Mapping[str, Any]) -> Step:
    score = told.get("avg_score")
    is_number = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) < 1e12
    word = str(told.get("status") or "")
    return Step(
        name=str(told.get("iteration_name") or ""),
        score=float(score) if is_number and score is not None else None,
        is_kept=word in ("keep", "baseline"),
        is_test=told.get("iteration_name") == "holdout",
        word=word,
        description=str(told.get("description") or ""),
    )
