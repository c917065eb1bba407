"""The figures: each is documented, each event is counted, and nobody outside decides how many series there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from overmind_agent.telemetry.catalogue import COUNTED, LOOKED_AT, METRICS, PREFIX
from overmind_agent.telemetry.from_events import MOST_CLAIMS, PLAIN, EventCounter
from overmind_agent.telemetry.labels import MOST_VALUES, OTHER, Clamp
from overmind_agent.telemetry.meters import Meters

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "seeing-inside.md"


def figures(meters: Meters) -> dict[str, float]:
    """Every sample of ours that is not 0, by its name and labels as they are written."""
    lines = meters.page().body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith(PREFIX))
    return {name.removeprefix(PREFIX): float(value) for name, value in pairs if float(value)}


@pytest.fixture
def meters() -> Meters:
    return Meters(list)


# ------------------------------------------------------------------------------------ documents


def test_the_page_lists_every_metric_with_its_labels_and_nothing_else() -> None:
    rows = re.findall(rf"^\| `({PREFIX}\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)

    wanted = [
        (metric.shown_name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]
    assert wanted == rows


def test_there_are_thirty_or_more_and_no_name_is_used_twice() -> None:
    names = [metric.name for metric in METRICS]

    assert len(names) >= 30
    assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_follows_the_conventions_of_prometheus(metric: Any) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
    assert not metric.name.endswith("_total")
    assert ("histogram" == metric.kind) == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")


# ------------------------------------------------------------------------------------ from events

JOB: Final = {"job_id": "j", "job_type": "inference"}
ENDED: Final = {**JOB, "duration_s": 3.0, "phases_s": {"claimed": 0.1, "validating": 0.2, "running": 2.0}}


@pytest.mark.parametrize("name", PLAIN)
def test_an_event_is_counted_under_its_metric(meters: Meters, name: str) -> None:
    metric, labels = PLAIN[name]

    EventCounter(meters).hear("info", {**dict.fromkeys(labels, "x"), "event": name})

    shown = ",".join(f'{label}="{name if label == "event" else "x"}"' for label in labels)
    key = f"{metric}_total{{{shown}}}" if labels else f"{metric}_total"
    assert {key: 1.0, 'log_events_total{level="info"}': 1.0} == figures(meters)


@pytest.mark.parametrize("outcome", ["completed", "failed", "canceled", "released", "lost"])
def test_an_ended_job_is_counted_and_timed(meters: Meters, outcome: str) -> None:
    EventCounter(meters).hear("info", {"event": f"job.{outcome}", "reason": "timeout", **ENDED})

    found = figures(meters)
    assert 1.0 == found[f'jobs_finished_total{{job_type="inference",outcome="{outcome}"}}']
    assert 3.0 == found['job_seconds_sum{job_type="inference"}']
    assert (0.2, 2.0) == tuple(found[f'job_phase_seconds_sum{{phase="{p}"}}'] for p in ("validating", "running"))
    assert ("failed" == outcome) == ('job_failures_total{reason="timeout"}' in found)


def test_a_job_that_was_lost_before_it_began_has_no_times(meters: Meters) -> None:
    EventCounter(meters).hear("info", {"event": "job.lost", "job_id": "j"})

    wanted = {'jobs_finished_total{job_type="none",outcome="lost"}': 1.0, 'log_events_total{level="info"}': 1.0}
    assert wanted == figures(meters)


def test_from_claim_to_start_is_timed(meters: Meters) -> None:
    now_s = [10.0]
    counter = EventCounter(meters, now_s=lambda: now_s[0])

    counter.hear("info", {"event": "job.claimed", **JOB})
    now_s[0] += 0.2
    counter.hear("info", {"event": "job.started", **JOB})
    counter.hear("info", {"event": "job.started", **JOB})

    found = figures(meters)
    assert 1.0 == found['claim_to_start_seconds_count{job_type="inference"}']
    assert 0.2 == pytest.approx(found['claim_to_start_seconds_sum{job_type="inference"}'])


def test_claims_that_never_start_are_not_remembered_for_ever(meters: Meters) -> None:
    counter = EventCounter(meters)

    for number in range(MOST_CLAIMS + 10):
        counter.hear("info", {"event": "job.claimed", "job_id": str(number)})

    assert MOST_CLAIMS == len(counter._claimed_at_s)


def test_a_delivery_is_timed_from_its_posting(meters: Meters) -> None:
    posted_at = (datetime.now(UTC) - timedelta(hours=1)).isoformat()

    EventCounter(meters).hear("debug", {"event": "outbox.delivered", "posted_at": posted_at})

    found = figures(meters)
    assert 1.0 == found["reports_delivered_total"]
    assert 3600 == pytest.approx(found["report_delay_seconds_sum"], abs=60)


def test_files_and_strays_are_summed(meters: Meters) -> None:
    counter = EventCounter(meters)

    for size_bytes in (1000, 24):
        counter.hear("info", {"event": "job.file_uploaded", "size_bytes": size_bytes})
    counter.hear("warning", {"event": "job.strays_killed", "processes": 3})

    found = figures(meters)
    assert (2.0, 1024.0, 3.0) == (
        found["result_files_total"],
        found["result_bytes_total"],
        found["strays_killed_total"],
    )


@pytest.mark.parametrize("event", [{}, {"event": None}, {"event": 7}, {"event": "of.nobody"}], ids=str)
def test_an_event_that_nobody_knows_is_counted_by_its_level(meters: Meters, event: Mapping[str, Any]) -> None:
    EventCounter(meters).hear("error", event)

    assert {'log_events_total{level="error"}': 1.0} == figures(meters)


# ------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("value", ["", "two words", "a" * 65, "ünder", 'a"b', "a\nb", "ovr_key=1", "{}"])
def test_a_value_that_is_no_plain_word_is_other(value: str) -> None:
    assert OTHER == Clamp()("reason", value)


@pytest.mark.parametrize("value", ["inference", "@scope:function", "lower_snake", "model-1.5", "200"])
def test_a_plain_word_stays(value: str) -> None:
    assert value == Clamp()("job_type", value)


def test_a_stranger_cannot_make_series_without_end() -> None:
    clamp = Clamp()

    seen = {clamp("job_type", f"type_{number}") for number in range(10 * MOST_VALUES)}

    assert MOST_VALUES + 1 == len(seen)
    assert "type_0" == clamp("job_type", "type_0")
    assert OTHER == clamp("job_type", "type_499")
    assert "type_499" == clamp("another_label", "type_499")


def test_what_is_other_twice_is_one_series() -> None:
    meters = Meters(lambda: [("jobs_held", 1, ("not a name",)), ("jobs_held", 2, ("nor this",))])

    assert {'jobs_held{job_type="other"}': 3.0} == figures(meters)


# ------------------------------------------------------------------------------------ the form


def test_what_is_shown_is_what_the_catalogue_says(meters: Meters) -> None:
    types = re.findall(rf"^# TYPE {PREFIX}(\w+) (\w+)$", meters.page().body.decode(), re.MULTILINE)

    assert [(f"{m.name}{'_total' if m.kind == 'counter' else ''}", m.kind) for m in COUNTED] == types


@pytest.mark.parametrize("version", ["x", "1.x.0", ""])
def test_an_odd_version_is_answered_in_some_form(meters: Meters, version: str) -> None:
    page = meters.page(f"application/openmetrics-text; version={version}")

    assert b"overmind_agent_" in page.body


def test_a_scraper_may_ask_for_openmetrics(meters: Meters) -> None:
    page = meters.page("application/openmetrics-text; version=1.0.0")

    assert page.content_type.startswith("application/openmetrics-text")
    assert page.body.endswith(b"# EOF\n")


def test_nothing_of_the_process_at_large_is_registered(meters: Meters) -> None:
    names = re.findall(r"^# TYPE (\w+)", meters.page().body.decode(), re.MULTILINE)

    assert [] == [name for name in names if not name.startswith((PREFIX, "process_"))]


def test_a_file_for_the_collector_is_written_whole(meters: Meters, tmp_path: Path) -> None:
    meters.count("job_crashes")

    meters.write(tmp_path / "agent.prom")

    assert [tmp_path / "agent.prom"] == list(tmp_path.iterdir())
    assert "overmind_agent_job_crashes_total 1.0" in (tmp_path / "agent.prom").read_text()


def test_all_that_is_looked_at_has_a_kind_that_can_be_shown() -> None:
    samples = [(metric.name, 1.0, tuple("x" for _ in metric.labels)) for metric in LOOKED_AT]

    found = figures(Meters(lambda: samples))

    assert len(LOOKED_AT) == len(found)
