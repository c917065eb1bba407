"""The dashboard and the alert rules ask for metrics that there are, by labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from overmind_agent.telemetry import catalogue
from overmind_agent.telemetry.health import REASONS
from overmind_agent.telemetry.watched_plane import OUTCOMES
from overmind_controlplane.serving import metrics as of_the_server
from overmind_executors.calls.answers import Kind

CONFIG: Final = Path(__file__).parents[2] / "config"
# What Prometheus and its client add.
OTHERS: Final = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}
OWN_LABELS: Final = {"instance", "job", "le"}
SELECTOR: Final = re.compile(r"\b([a-z][a-z0-9_]*)\{([^}]*)\}|\b(overmind_[a-z0-9_]+|process_[a-z_]+|up)\b")
MATCHER: Final = re.compile(r'([a-z_]+)\s*(=|!=|=~|!~)\s*"([^"]*)"')


def _labels() -> dict[str, set[str]]:
    """The labels of everything that a query may name."""
    found: dict[str, set[str]] = {name: set() for name in OTHERS}
    for metric in catalogue.METRICS:
        for suffix in ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",):
            found[metric.shown_name + suffix] = set(metric.labels)
    for name, (kind, labels, _) in of_the_server.METRICS.items():
        found[f"{of_the_server.PREFIX}{name}{'_total' if kind == 'counter' else ''}"] = set(labels)
    return found


LABELS: Final = _labels()
RULES: Final = [
    rule
    for group in yaml.safe_load((CONFIG / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: Final = json.loads((CONFIG / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def _queries() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


QUERIES: Final = list(_queries())


def _asked(expression: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The metrics of *expression*, each with its matchers as (label, value)."""
    for match in SELECTOR.finditer(expression):
        matchers = [(label, value) for label, _, value in MATCHER.findall(match[2] or "")]
        yield match[1] or match[3], matchers


@pytest.mark.parametrize(("name", "expression"), QUERIES, ids=lambda value: str(value)[:40])
def test_a_query_names_metrics_and_labels_that_there_are(name: str, expression: str) -> None:
    asked = list(_asked(expression))

    assert asked
    for metric, matchers in asked:
        assert metric in LABELS
        assert {label for label, _ in matchers} <= LABELS[metric] | OWN_LABELS
    grouped = re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression)
    known = set().union(*(LABELS[metric] for metric, _ in asked)) | OWN_LABELS
    assert {label.strip() for group in grouped for label in group.split(",")} <= known
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize(("name", "expression"), QUERIES, ids=lambda value: str(value)[:40])
def test_a_query_asks_for_values_that_there_are(name: str, expression: str) -> None:
    """A word that is never said makes a rule that never fires."""
    said: Mapping[str, set[str]] = {
        "outcome": {"completed", "failed", "canceled", "released", "lost"} | {word for _, word in OUTCOMES},
        "code": {*REASONS, "5xx"},
        "kind": {kind.value for kind in Kind},
        "verb": {"next_job", "heartbeat"},
    }

    words = {
        (label, word)
        for _, matchers in _asked(expression)
        for label, value in matchers
        if label in said
        for word in value.split("|")
    }
    assert set() == {(label, word) for label, word in words if word not in said[label]}


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]

    assert len(names) == len(set(names)) >= 15
    for rule in RULES:
        assert {"summary", "description"} == set(rule["annotations"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[0-9]+[smhd]", rule.get("for", "0s"))


def test_a_label_of_a_message_is_one_that_its_query_keeps() -> None:
    for rule in RULES:
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        grouped = re.search(r"\bsum by \(([^)]*)\)", rule["expr"])
        first = next(iter(_asked(rule["expr"])))[0]
        kept = set(re.split(r",\s*", grouped[1])) if grouped else LABELS[first] | OWN_LABELS

        assert used <= kept, rule["alert"]


def test_most_metrics_are_on_the_dashboard() -> None:
    """What is left out is named here, so that a new metric is not forgotten."""
    shown = {metric for panel in PANELS for target in panel["targets"] for metric, _ in _asked(target["expr"])}

    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    missing = {m.name for m in catalogue.METRICS if m.shown_name not in bare}
    assert {
        "build_info",
        "children_started",
        "draining",
        "jobs_claimed",
        "paused",
        "reloads",
        "reports_delivered",
        "result_files",
        "result_files_left",
        "secrets_masked",
        "spans",
        "telemetry_requests",
        "token_expires_timestamp_seconds",
        "uptime_seconds",
    } == missing


def test_the_panels_lie_side_by_side() -> None:
    taken: dict[tuple[int, int], Any] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 24 >= place["x"] + place["w"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
