"""Which trace a call, a line and a job belong to; and the spans that are made of what happens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pytest

from agent_parts import JOB_ID, a_claim, a_job
from overmind_agent import tracing
from overmind_agent.jobs import NoJob, StatusUpdate
from overmind_agent.lifecycle import Status
from overmind_agent.telemetry.from_children import CallCounter
from overmind_agent.telemetry.labels import OTHER
from overmind_agent.telemetry.meters import Meters
from overmind_agent.telemetry.spans import NS, JobSpans, Span
from overmind_agent.telemetry.traces import MOST_JOBS, Traces
from overmind_agent.telemetry.watched_plane import watched
from overmind_executors.trace_context import TraceContext

GIVEN: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID: Final = GIVEN[3:35]
UPDATE: Final = StatusUpdate(JOB_ID, 1, 1, Status.RUNNING)


# ------------------------------------------------------------------------------------ whose trace


def test_a_job_belongs_to_the_trace_of_its_submitter() -> None:
    assert TRACE_ID == tracing.of_job(a_job(traceparent=GIVEN)).trace_id


@pytest.mark.parametrize("traceparent", [None, "", "garbage", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"])
def test_a_job_without_one_has_a_trace_of_its_own_that_is_the_same_after_a_crash(traceparent: str | None) -> None:
    found = tracing.of_job(a_job(traceparent=traceparent))

    assert found == tracing.of_job(a_job())
    assert found.trace_id != tracing.of_job(a_job("another")).trace_id


def test_each_attempt_is_a_span_of_its_own() -> None:
    first, second = (tracing.of_claim(a_claim(attempt=n, traceparent=GIVEN)) for n in (1, 2))

    assert {TRACE_ID} == {first.trace_id, second.trace_id}
    assert first.span_id != second.span_id


class Plane:
    """Notes in which trace it is called."""

    def __init__(self, answer: object = None) -> None:
        self.seen: list[TraceContext] = []
        self._answer = answer

    def __getattr__(self, verb: str) -> Any:
        def call(*_args: object, **_kwargs: object) -> object:
            self.seen.append(tracing.current())
            return self._answer

        return call


@pytest.mark.parametrize(
    ("verb", "argument"), [("claim", a_job(traceparent=GIVEN)), ("upload", a_claim(traceparent=GIVEN))]
)
def test_a_call_about_a_job_is_made_in_its_trace(verb: str, argument: object) -> None:
    plane = Plane()

    getattr(watched(plane, lambda _call: None, Traces()), verb)(argument)  # type: ignore[arg-type]

    assert [TRACE_ID] == [context.trace_id for context in plane.seen]
    assert tracing.THIS_PROCESS == tracing.current()


@pytest.mark.parametrize("arguments", [(), ((),), ([UPDATE, UPDATE],), ("an id",)], ids=repr)
def test_any_other_call_is_made_in_the_trace_of_the_process(arguments: tuple[object, ...]) -> None:
    plane = Plane()

    watched(plane, lambda _call: None, Traces()).heartbeat(*arguments)  # type: ignore[arg-type, call-arg]

    assert [tracing.THIS_PROCESS] == plane.seen


def test_a_report_is_made_in_the_trace_of_the_job_that_was_claimed_before() -> None:
    traces = Traces()
    claiming, reporting = Plane(a_claim(traceparent=GIVEN)), Plane()

    watched(claiming, lambda _call: None, traces).claim(a_job(), key="k")  # type: ignore[arg-type]
    watched(reporting, lambda _call: None, traces).report(UPDATE)  # type: ignore[arg-type]

    assert [tracing.of_claim(a_claim(traceparent=GIVEN))] == reporting.seen


def test_a_call_that_brings_no_job_teaches_nothing() -> None:
    traces = Traces()

    watched(Plane(NoJob("none")), lambda _call: None, traces).next_job(wait_s=0)  # type: ignore[arg-type]

    assert traces.given(JOB_ID) is None


def test_jobs_are_not_remembered_for_ever() -> None:
    traces = Traces()

    for number in range(MOST_JOBS + 1):
        traces.learn(a_job(f"job-{number}", traceparent=GIVEN))

    assert traces.given("job-0") is None
    assert traces.given("job-1") is not None


@pytest.mark.parametrize(
    ("event", "trace_id"),
    [
        ({"event": "job.claimed", "job_id": JOB_ID}, tracing.of_job(a_job()).trace_id),
        ({"event": "job.claimed", "job_id": JOB_ID, "trace_id": "x"}, "x"),
        ({"event": "agent.started"}, None),
    ],
)
def test_a_line_about_a_job_has_its_trace(event: dict[str, Any], trace_id: str | None) -> None:
    Traces().hear("info", event)

    assert trace_id == event.get("trace_id")


# ------------------------------------------------------------------------------------ spans


class Scene:
    """What a daemon would log, on a clock that is told."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.traces = Traces()
        self.kept: list[Span] = []
        self.spans = JobSpans(self.kept.append, self.traces, lambda: ["local"], now_ns=lambda: int(self.now_s * NS))

    def log(self, name: str, **more: Any) -> None:
        """One event, and a second later."""
        self.spans.hear("info", {"event": name, "job_id": JOB_ID, "attempt": 1, "job_type": "inference", **more})
        self.now_s += 1

    def run(self, *names: str, **more: Any) -> None:
        """A job to its end."""
        for name in names[:-1]:
            self.log(name)
        self.log(names[-1], **more)


@pytest.fixture
def scene() -> Scene:
    return Scene()


ALL: Final = ("job.claimed", "job.validating", "job.started", "job.uploading")


def test_a_job_is_a_span_and_its_phases_lie_in_it(scene: Scene) -> None:
    scene.traces.learn(a_job(traceparent=GIVEN))

    scene.run(*ALL, "job.completed")

    job = scene.kept[-1]
    assert ["validating", "running", "uploading", "job"] == [span.name for span in scene.kept]
    assert [1, 1, 1, 4] == [(span.ended_ns - span.began_ns) // NS for span in scene.kept]
    assert {TRACE_ID} == {span.context.trace_id for span in scene.kept}
    assert {job.context.span_id} == {span.parent_id for span in scene.kept[:-1]}
    assert (GIVEN[36:52], tracing.of_claim(a_claim(traceparent=GIVEN))) == (job.parent_id, job.context)
    assert 4 == len({span.context.span_id for span in scene.kept})


def test_a_job_that_nobody_submitted_in_a_trace_is_a_root(scene: Scene) -> None:
    scene.run(*ALL, "job.completed")

    assert "" == scene.kept[-1].parent_id


@pytest.mark.parametrize(
    ("outcome", "error"),
    [("completed", ""), ("canceled", ""), ("released", ""), ("failed", "timeout"), ("lost", "timeout")],
)
def test_how_a_job_ended_stands_in_its_span(scene: Scene, outcome: str, error: str) -> None:
    scene.run("job.claimed", "job.started", f"job.{outcome}", reason="timeout")

    assert (outcome, error) == (scene.kept[-1].attributes["overmind.job.outcome"], scene.kept[-1].error)


def test_a_job_that_never_began_here_leaves_no_span(scene: Scene) -> None:
    scene.run("job.started", "job.completed")
    scene.spans.hear("info", {"event": "job.lost", "job_id": JOB_ID})

    assert [] == scene.kept


CALL: Final = {
    "event": "call",
    "span_id": "00f067aa0ba902b7",
    "model": "local",
    "kind": "ok",
    "started_at": 1_700_000_000.0 - 3,
    "seconds": 2.5,
    "prompt_tokens": 12,
    "completion_tokens": 1,
}


def test_a_model_call_lies_in_the_span_of_its_attempt(scene: Scene) -> None:
    scene.spans.called(JOB_ID, 1, CALL)

    (span,) = scene.kept
    attempt = tracing.of_claim(a_claim())
    assert (attempt.trace_id, attempt.span_id) == (span.context.trace_id, span.parent_id)
    assert "00f067aa0ba902b7" == span.context.span_id
    assert (2.5, -3.0) == ((span.ended_ns - span.began_ns) / NS, span.began_ns / NS - 1_700_000_000)
    wanted = {"gen_ai.request.model": "local", "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 1}
    assert wanted.items() <= span.attributes.items()


@pytest.mark.parametrize(
    "change",
    [
        {"span_id": None},
        {"span_id": "x" * 16},
        {"span_id": "00F067AA0BA902B7"},
        {"seconds": "1"},
        {"seconds": None},
    ],
    ids=str,
)
def test_what_is_no_call_is_no_span(scene: Scene, change: Mapping[str, Any]) -> None:
    scene.spans.called(JOB_ID, 1, {**CALL, **change})

    assert [] == scene.kept


@pytest.mark.parametrize(
    "change",
    [
        {"started_at": 1e300},
        {"started_at": -1e300},
        {"started_at": "now"},
        {"seconds": 1e300},
        {"seconds": -5},
        {"prompt_tokens": 2**70},
        {"prompt_tokens": "many"},
        {"completion_tokens": True},
        {"model": "rm -rf"},
        {"model": ["local"]},
        {"kind": "<script>"},
        {"kind": 7},
    ],
    ids=str,
)
def test_what_a_job_says_of_a_call_is_kept_within_bounds(scene: Scene, change: Mapping[str, Any]) -> None:
    scene.spans.called(JOB_ID, 1, {**CALL, **change})

    (span,) = scene.kept
    assert 0 < span.began_ns <= span.ended_ns <= scene.now_s * NS
    assert span.attributes["gen_ai.request.model"] in ("local", OTHER)
    assert re.fullmatch("[a-z_]+", str(span.attributes["overmind.answer"]))
    assert "gen_ai.usage.input_tokens" in span.attributes or "prompt_tokens" in change


# ------------------------------------------------------------------------------------ totals of model calls

TOTALS: Final = {
    "life": 7,
    "model": "local",
    "kinds": {"ok": 3, "rate_limited": 1},
    "refused": {"budget_exhausted": 2},
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "cost_usd": 0.25,
    "seconds": 1.5,
}


def counted(*told: Mapping[str, Any], job_ids: tuple[str, ...] = (JOB_ID,)) -> dict[str, float]:
    """What is shown after all of *told*."""
    meters = Meters(list)
    counter = CallCounter(meters, lambda: ["local"])
    for job_id in job_ids:
        for line in told:
            counter.hear(job_id, line)
    lines = meters.page().body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("overmind_agent_model_"))
    return {name.removeprefix("overmind_agent_model_"): float(value) for name, value in pairs}


def test_totals_are_counted_by_how_much_they_grew() -> None:
    first = {**TOTALS, "kinds": {"ok": 1}, "prompt_tokens": 40, "cost_usd": 0.125}

    wanted = {
        'calls_total{kind="ok",model="local"}': 3.0,
        'calls_total{kind="rate_limited",model="local"}': 1.0,
        'calls_refused_total{model="local",reason="budget_exhausted"}': 2.0,
        'tokens_total{direction="read",model="local"}': 100.0,
        'tokens_total{direction="written",model="local"}': 10.0,
        'cost_usd_total{model="local"}': 0.25,
        'call_seconds_total{model="local"}': 1.5,
    }
    assert wanted == counted(first, TOTALS, TOTALS)


def test_another_process_begins_anew() -> None:
    found = counted(TOTALS, {**TOTALS, "life": 8})

    assert 200.0 == found['tokens_total{direction="read",model="local"}']


def test_the_totals_of_several_jobs_add_up() -> None:
    assert 6.0 == counted(TOTALS, job_ids=("a", "b"))['calls_total{kind="ok",model="local"}']


@pytest.mark.parametrize("amount", [-1, True, "7", None, [], 1e13, float("nan"), float("inf")], ids=repr)
def test_what_is_no_amount_is_not_counted(amount: object) -> None:
    keys = ("prompt_tokens", "completion_tokens", "cost_usd", "seconds")

    assert {} == counted({"model": "local", "kinds": {"ok": amount}, **dict.fromkeys(keys, amount)})


@pytest.mark.parametrize("told", [{}, {"kinds": 7}, {"kinds": ["ok"]}, {"model": ["local"]}], ids=str)
def test_a_line_that_is_none_is_left(told: Mapping[str, Any]) -> None:
    assert {} == counted(told)


def test_a_model_that_this_host_does_not_have_is_other() -> None:
    assert {'calls_total{kind="ok",model="other"}': 1.0} == counted({"model": "gpt-x", "kinds": {"ok": 1}})
