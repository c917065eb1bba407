"""docs/events.md lists every event of the log, with levels and fields: read off the source, in both directions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from overmind_agent.telemetry import from_events, spans

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "events.md"
LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error")} | {"exception": "error"}
EVENT: Final = re.compile(r"[a-z_]+\.[a-z_]+")
ROW: Final = re.compile(r"^\| `([a-z_.]+)` \| ([a-z, ]+) \| (.*?) \| (.+?) \| (.*?) \|$", re.MULTILINE)
# Bound once for all lines about a job, or handed on as `**about`: no keyword of the call names them.
BOUND: Final = frozenset({"job_id", "job_type", "attempt", "status", "trace_id", "applied", "needs_restart"})

# Who writes the log, and the heading of its table.
LOGS: Final = {
    "The daemon": ("agent", "config"),
    "A job's own log": ("executors",),
    "The control plane": ("controlplane",),
}


@dataclass
class Event:
    """One event, over all places that log it."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def _sources(roots: tuple[str, ...]) -> Iterator[ast.Module]:
    for root in roots:
        for path in sorted((ROOT / root).rglob("*.py")):
            if "testing" not in path.parts:
                text = path.read_text(encoding="utf-8")
                if "log." in text or "get_logger(" in text:
                    yield ast.parse(text)


def _is_a_log(node: ast.expr) -> bool:
    """Whether *node* is `log`, `self._log`, `context.log` or `structlog.get_logger()`."""
    return bool(re.search(r"(^|[._])log$|get_logger\(.*\)$", ast.unparse(node)))


def _words(node: ast.expr, tree: ast.Module) -> list[str]:
    """The texts that *node* may be: a constant, a name that was given constants, or an entry of a table of them."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if not isinstance(node, ast.Name):
        return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return [word for value in _given(node.id, tree) for word in _words(value, tree) if EVENT.fullmatch(word)]


def _given(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    for one in ast.walk(tree):
        targets = (
            one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(one, (ast.Assign, ast.AnnAssign))
            if one.value is not None:
                yield one.value


def _level(node: ast.expr) -> set[str]:
    """At which level the method *node* logs; none when it is no method of a log."""
    is_one = isinstance(node, ast.Attribute) and node.attr in LEVELS and _is_a_log(node.value)
    return {LEVELS[node.attr]} if is_one and isinstance(node, ast.Attribute) else set()


def _named_methods(tree: ast.Module) -> dict[str, set[str]]:
    """Names that stand for methods of a log, as in `say = log.error if … else log.info`, with their levels."""
    found: dict[str, set[str]] = {}
    for one in ast.walk(tree):
        if (
            isinstance(one, ast.Assign)
            and isinstance(one.value, ast.IfExp)
            and isinstance(one.targets[0], ast.Name)
        ):
            levels = _level(one.value.body) | _level(one.value.orelse)
            found.setdefault(one.targets[0].id, set()).update(levels)
    return found


@cache
def events(roots: tuple[str, ...]) -> dict[str, Event]:
    """Every event that the source logs."""
    found: dict[str, Event] = {}
    for tree in _sources(roots):
        named = _named_methods(tree)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
            levels = named.get(call.func.id, set()) if isinstance(call.func, ast.Name) else _level(call.func)
            for word in _words(call.args[0], tree) if levels else []:
                assert EVENT.fullmatch(word), f"{word!r} is no name of an event"
                event = found.setdefault(word, Event())
                event.levels |= levels
                event.fields |= {keyword.arg for keyword in call.keywords if keyword.arg not in (None, "exc_info")}
    return found


def _documented(heading: str) -> dict[str, tuple[set[str], set[str]]]:
    part = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return {row[1]: (set(row[2].split(", ")), set(re.findall(r"`(\w+)`", row[3]))) for row in ROW.finditer(part)}


@pytest.mark.parametrize("heading", LOGS)
def test_the_page_lists_every_event_with_its_levels_and_nothing_else(heading: str) -> None:
    wanted = {name: event.levels for name, event in sorted(events(LOGS[heading]).items())}

    assert wanted == {name: levels for name, (levels, _) in sorted(_documented(heading).items())}


@pytest.mark.parametrize("heading", LOGS)
def test_the_page_lists_the_fields_of_every_event(heading: str) -> None:
    documented = _documented(heading)

    wanted = {name: event.fields | documented[name][1] & BOUND for name, event in events(LOGS[heading]).items()}
    assert wanted == {name: fields for name, (_, fields) in documented.items()}


def test_each_event_is_listed_once_and_in_order() -> None:
    for heading in LOGS:
        names = list(_documented(heading))
        part = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]

        assert [row[1] for row in ROW.finditer(part)] == sorted(names)


def test_what_is_counted_or_made_a_span_is_an_event_of_the_daemon() -> None:
    """An event that is given another name takes its metric with it."""
    known = events(LOGS["The daemon"])
    counted = {*from_events.PLAIN, *from_events.ENDS, *from_events.SPECIAL}
    heard = {*spans.BEGINNINGS, *spans.PHASES, *spans.ENDS}

    assert set() == (counted | heard) - set(known)


def test_the_labels_that_are_counted_are_fields_of_their_events() -> None:
    known = events(LOGS["The daemon"])

    missing = {
        (name, label)
        for name, (_, labels) in from_events.PLAIN.items()
        for label in labels
        if label != "event" and label not in known[name].fields
    }
    assert set() == missing
