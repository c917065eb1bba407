"""The steps of a job's search: what of them can be kept, and which of them are new."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.jobs.words import Word
from overmind_controlplane.record.tables import Iteration, Job, new_id, now


def attach(session: Session, job: Job, fields: Mapping[str, Any]) -> Iteration:
    """Add one step of the search to the job."""
    made = Iteration(id=new_id(), project_id=job.project_id, job_id=job.id, **fields)
    session.add(made)
    session.flush()
    return made


def attach_new(session: Session, job: Job, steps: Iterable[Mapping[str, Any]]) -> None:
    """Add *steps* that an agent told, but for those whose order and name are listed already."""
    if not (told := list(steps)):
        return
    there = select(Iteration.order, Iteration.iteration_name).where(Iteration.job_id == job.id)
    listed = {(order, name) for order, name in session.execute(there)}
    for fields in told:
        if (place := (fields.get("order", 0), fields["iteration_name"])) not in listed:
            listed.add(place)
            attach(session, job, fields)
            job.updated = now()


def forget(session: Session, job: Job) -> None:
    """A new attempt searches anew: what the last one told is none of its steps."""
    if job.attempt and job.started_at is not None:
        session.execute(delete(Iteration).where(Iteration.job_id == job.id, Iteration.created >= job.started_at))


def of_word(word: Word) -> Iterator[dict[str, Any]]:
    """The fields of each iteration that *word* brings; what is of another type than it should be is left out."""
    told = (word.detail.get("outcome") or {}).get(wire.ITERATIONS)
    return readable(told if isinstance(told, list) else ())


def readable(told: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Those of *told* that are iterations, with the fields that can be kept."""
    for one in told:
        if not isinstance(one, Mapping) or not isinstance(one.get("iteration_name"), str):
            continue
        fields = {name: one[name] for name, fits in _OF_AN_ITERATION.items() if name in one and fits(one[name])}
        texts = {name: value.replace("\0", "\ufffd") for name, value in fields.items() if isinstance(value, str)}
        yield {**fields, **texts, "iteration_name": texts["iteration_name"][:64]}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_OF_AN_ITERATION: Final[Mapping[str, Callable[[Any], bool]]] = {
    "iteration_name": _is_text,
    "agent_code": _is_text,
    "description": _is_text,
    "avg_score": _is_score,
    "dimension_scores": lambda value: isinstance(value, Mapping),
    "order": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "status": lambda value: value in ("keep", "discard"),
}
