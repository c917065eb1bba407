"""
What became of a job, as spans: the job, its phases, its calls of chat models.

The spans are made of what is there anyway: events of the log, and what jobs say of their calls. Their ids are those
that the job's environment and headers carry, so what others record below them fits.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from overmind_agent import tracing
from overmind_agent.telemetry.labels import OTHER
from overmind_agent.telemetry.traces import Traces
from overmind_executors.trace_context import TraceContext

NS: Final = 1_000_000_000
MOST_JOBS: Final = 1000
# A call that a job tells of has ended a moment ago.
MOST_CALL_S: Final = 86_400.0

BEGINNINGS: Final = frozenset({"job.claimed", "job.resumed"})
PHASES: Final = {"job.validating": "validating", "job.started": "running", "job.uploading": "uploading"}
ENDS: Final = {f"job.{outcome}": outcome for outcome in ("completed", "failed", "canceled", "released", "lost")}
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_WORD: Final = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True)
class Span:
    """
    One span that has ended.

    Attributes:
        context: its own ids.
        parent_id: 16 hex digits, empty for none.
        error: why it did not go well, empty when it did.
    """

    name: str
    context: TraceContext
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int | float]
    error: str = ""


@dataclass
class _Running:
    """A job that has begun: when, and its present phase."""

    began_ns: int
    phase: str = ""
    phase_began_ns: int = 0
    attributes: dict[str, str | int | float] = field(default_factory=dict)


class JobSpans:
    """
    Hears events and calls, and makes spans of them.

    Args:
        keep: takes a span that has ended; must not wait.
        models: the names of this host's, as they are now.
        now_ns: of the wall clock, since that is what the spans of others go by.
    """

    def __init__(
        self,
        keep: Callable[[Span], object],
        traces: Traces,
        models: Callable[[], Collection[str]],
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keep = keep
        self._traces = traces
        self._models = models
        self._now_ns = now_ns
        self._running: OrderedDict[tuple[str, int], _Running] = OrderedDict()

    def hear(self, _level: str, event: Mapping[str, Any]) -> None:
        """An event of the log; one that names no attempt is not about a job's run."""
        name, job_id, attempt = str(event.get("event")), event.get("job_id"), event.get("attempt")
        if not isinstance(job_id, str) or not isinstance(attempt, int):
            return
        if name in BEGINNINGS:
            self._begin((job_id, attempt))
        elif name in PHASES:
            self._enter((job_id, attempt), PHASES[name])
        elif name in ENDS:
            self._end((job_id, attempt), ENDS[name], event)

    def called(self, job_id: str, attempt: int, told: Mapping[str, Any]) -> None:
        """A job tells of a call that has ended; untrusted."""
        span_id, kind, model = told.get("span_id"), told.get("kind"), str(told.get("model"))
        seconds = told.get("seconds")
        if not (isinstance(span_id, str) and _SPAN_ID.fullmatch(span_id) and isinstance(seconds, (int, float))):
            return
        took_ns = int(min(max(0.0, seconds), MOST_CALL_S) * NS)
        ended_ns = self._now_ns()
        if isinstance(started_at := told.get("started_at"), (int, float)):
            earliest_s = ended_ns / NS - MOST_CALL_S
            ended_ns = min(ended_ns, int(max(earliest_s, min(started_at, ended_ns / NS)) * NS) + took_ns)
        attempt_span = self._span_of(job_id, attempt)
        word = kind if isinstance(kind, str) and _WORD.fullmatch(kind) else OTHER
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model if model in self._models() else OTHER,
            "overmind.answer": word,
        }
        for key, attribute in (("prompt_tokens", "input"), ("completion_tokens", "output")):
            if type(count := told.get(key)) is int and 0 <= count < 2**53:
                attributes[f"gen_ai.usage.{attribute}_tokens"] = count
        context = TraceContext(attempt_span.trace_id, span_id, attempt_span.is_sampled)
        error = "" if word == "ok" else word
        self._keep(
            Span("model call", context, attempt_span.span_id, ended_ns - took_ns, ended_ns, attributes, error)
        )

    def _begin(self, key: tuple[str, int]) -> None:
        self._running[key] = _Running(self._now_ns())
        if len(self._running) > MOST_JOBS:
            self._running.popitem(last=False)

    def _enter(self, key: tuple[str, int], phase: str) -> None:
        running = self._running.get(key)
        if running is not None:
            self._end_phase(key, running)
            running.phase, running.phase_began_ns = phase, self._now_ns()

    def _end_phase(self, key: tuple[str, int], running: _Running) -> None:
        if running.phase:
            job = self._span_of(*key)
            self._keep(
                Span(
                    running.phase,
                    job.child(running.phase, running.phase_began_ns),
                    job.span_id,
                    running.phase_began_ns,
                    self._now_ns(),
                    {"overmind.job.id": key[0]},
                )
            )

    def _end(self, key: tuple[str, int], outcome: str, event: Mapping[str, Any]) -> None:
        running = self._running.pop(key, None)
        if running is None:
            return
        self._end_phase(key, running)
        job_id, attempt = key
        submitted = self._traces.given(job_id)
        self._keep(
            Span(
                "job",
                self._span_of(job_id, attempt),
                submitted.span_id if submitted else "",
                running.began_ns,
                self._now_ns(),
                {
                    "overmind.job.id": job_id,
                    "overmind.job.type": str(event.get("job_type", "")),
                    "overmind.job.attempt": attempt,
                    "overmind.job.outcome": outcome,
                    "overmind.job.reason": str(event.get("reason") or ""),
                },
                str(event.get("reason") or outcome) if outcome in ("failed", "lost") else "",
            )
        )

    def _span_of(self, job_id: str, attempt: int) -> TraceContext:
        return tracing.of_attempt(self._traces.of_job(job_id), job_id, attempt)
