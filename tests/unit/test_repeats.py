"""The same error is said once a minute with its count; what differs, or answers a person, is said each time."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from overmind_config import host, logs
from overmind_config.repeats import ANSWERS, EVERY_S, MOST_KINDS

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


class Told:
    """A log on a clock that is told."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.heard: list[str] = []
        self._stream = io.StringIO()
        self.logs = logs.configure(self._stream, level="debug", now_s=lambda: self.now_s)
        self.logs.listen(lambda _level, event: self.heard.append(event["event"]))

    def lines(self) -> list[dict[str, Any]]:
        """What was said since the last look, without its time."""
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return [{k: v for k, v in json.loads(line).items() if k != "timestamp"} for line in text.splitlines()]


@pytest.fixture
def told() -> Iterator[Told]:
    yield Told()
    logs.configure(None).close()


def fail(error: Exception, **more: Any) -> None:
    """A loop that meets *error*."""
    try:
        raise error
    except Exception:
        structlog.get_logger().exception("loop.failed", **more)


def test_of_a_hundred_equal_errors_two_lines_are_said_and_all_are_counted(told: Told) -> None:
    for second in range(100):
        told.now_s = second * 0.6
        fail(OSError("down"), loop="delivery", wait_s=2.0 + second)
    (first,) = told.lines()

    told.now_s = EVERY_S
    told.logs.tell_repeats()
    (last,) = told.lines()

    assert "OSError: down" in first.pop("exception")
    assert {"event": "loop.failed", "level": "error", "loop": "delivery", "wait_s": 2.0} == first
    assert {"event": "loop.failed", "level": "error", "loop": "delivery", "wait_s": 101.0, "times": 99} == last
    assert 100 == len(told.heard)


def test_an_error_that_goes_on_is_said_once_in_each_minute(told: Told) -> None:
    log = structlog.get_logger()

    for second in range(600):
        told.now_s = float(second)
        log.warning("control_plane.retry_scheduled", error="refused", wait_s=1.0)
    told.logs.close()

    lines = told.lines()
    assert 11 == len(lines)
    assert 600 == sum(line.get("times", 1) for line in lines)


def test_the_next_line_of_any_kind_brings_what_was_held_back(told: Told) -> None:
    log = structlog.get_logger()
    for _ in range(3):
        log.error("journal.refused", error="no space left")
    told.lines()

    told.now_s = EVERY_S + 1
    log.info("job.claimed")

    assert [("journal.refused", 2), ("job.claimed", None)] == [(x["event"], x.get("times")) for x in told.lines()]


def test_one_that_came_once_more_is_said_as_it_is(told: Told) -> None:
    log = structlog.get_logger()
    for _ in range(2):
        log.error("journal.refused", error="no space left")
    told.lines()

    told.logs.close()

    assert [{"event": "journal.refused", "level": "error", "error": "no space left"}] == told.lines()


def test_after_a_quiet_minute_it_is_said_at_once_again(told: Told) -> None:
    log = structlog.get_logger()
    log.error("journal.refused", error="no space left")
    told.now_s = 2 * EVERY_S
    log.error("journal.refused", error="no space left")

    assert [None, None] == [line.get("times") for line in told.lines()]


@pytest.mark.parametrize(
    ("say", "is_one"),
    [
        (lambda log, _n: log.info("job.claimed"), False),
        (lambda log, _n: log.debug("log.retry_scheduled"), False),
        (lambda log, n: log.error("job.failed", job_id=f"job-{n}"), False),
        (lambda log, n: log.error("loop.failed", loop=f"worker-{n}"), False),
        (lambda log, n: log.error("request.failed", error_id=f"id-{n}"), False),
        (lambda log, _n: log.warning("control.refused", pid=1, uid=0), False),
        (lambda log, n: log.warning("outbox.refused", http_status=409 + n), False),
        (lambda log, n: [log.warning, log.error][n]("journal.refused"), False),
        (lambda _log, n: fail([OSError("x"), KeyError("x")][n]), False),
        (lambda _log, n: fail(OSError(f"port {4000 + n}")), True),
        (lambda log, n: log.warning("x.y", error=f"port {4000 + n}: refused after {n}.5 s"), True),
        (lambda log, n: log.warning("x.y", error=["refused", "timed out"][n]), False),
        (lambda log, n: log.warning("clock.skewed", skew_s=60.0 + n, trace_id=str(n)), True),
        (lambda log, n: log.warning("log.refused", left_bytes=n), True),
        (lambda _log, n: logging.getLogger("urllib3").warning("retry %d", n), True),
        (lambda _log, n: logging.getLogger(f"library{n}").warning("late"), False),
    ],
)
def test_what_is_the_same_error(told: Told, say: Callable[[Any, int], object], is_one: bool) -> None:
    """Not numbers in its words, measures or traces; but another job, loop, status, level or class makes another."""
    for number in range(2):
        say(structlog.get_logger(), number)

    assert (1 if is_one else 2) == len(told.lines())


def test_what_a_library_repeats_is_counted_in_its_words(told: Told) -> None:
    for number in range(3):
        logging.getLogger("urllib3").warning("retry %d", number)

    told.logs.close()

    assert ["retry 0", "retry 2 (2 times)"] == [line["event"] for line in told.lines()]


def test_what_comes_in_too_many_kinds_is_said_as_it_comes(told: Told) -> None:
    """What is remembered does not grow with what a hostile job can make differ."""
    for number in range(MOST_KINDS + 5):
        structlog.get_logger().warning("x.y", job_id=f"job-{number}")
    told.lines()

    for _ in range(3):
        structlog.get_logger().warning("x.y", job_id="one more")

    assert 3 == len(told.lines())


def test_what_answers_a_person_is_an_event() -> None:
    assert [] == [name for name in ANSWERS if f"| `{name}` |" not in PAGE.read_text(encoding="utf-8")]


# ------------------------------------------------------------------------------------ the journal's levels


def test_in_systemds_journal_each_line_has_its_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        configured = logs.configure(stream, level="debug", style="json")
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(structlog.get_logger(), level)("job.claimed")
        configured.close()
        stream.seek(0)
        written = stream.read().splitlines()
    logs.configure(None).close()

    assert ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"] == [line[:4] for line in written]


@pytest.mark.parametrize("named", ["", "1:2", "nonsense"])
def test_another_stream_than_the_journals_has_none(tmp_path: Path, named: str) -> None:
    with (tmp_path / "file").open("w") as stream:
        assert not host.is_journal(stream, {"JOURNAL_STREAM": named})
    assert not host.is_journal(None, {"JOURNAL_STREAM": "1:2"})
    assert not host.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})
