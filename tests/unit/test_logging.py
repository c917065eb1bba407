"""Logging: the form of a line, what is masked, and that nothing stops it."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from overmind_config import logs
from overmind_config.redaction import MASK, MAX_DEPTH, Redactor

BOUND = {"agent_id": "agent-1", "agent_version": "0.1.0"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Logging is the process's own: what a test set up is taken back."""
    yield
    logs.configure(None).close()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line() -> None:
    stream = io.StringIO()
    logs.configure(stream, bound=BOUND)

    structlog.get_logger().bind(job_id="job-1").info("job.claimed", attempt=2)

    (line,) = _lines(stream)
    assert ["timestamp", "level", "event"] == list(line)[:3]
    assert UTC == datetime.fromisoformat(line.pop("timestamp")).tzinfo
    assert {"event": "job.claimed", "level": "info", "job_id": "job-1", "attempt": 2, **BOUND} == line


def test_a_traceback_is_in_the_same_line() -> None:
    stream = io.StringIO()
    logs.configure(stream)

    try:
        raise RuntimeError("boom")
    except RuntimeError:
        structlog.get_logger().exception("job.failed")

    (line,) = _lines(stream)
    assert "RuntimeError: boom" in line["exception"]


@pytest.mark.parametrize("library", ["apscheduler.executors.default", "urllib3.connectionpool", "anything"])
def test_a_library_speaks_from_warning_on_in_the_same_form(library: str) -> None:
    stream = io.StringIO()
    logs.configure(stream, level="debug", bound=BOUND)

    logging.getLogger(library).info("added job")
    logging.getLogger(library).warning("missed by %d s", 3)

    (line,) = _lines(stream)
    del line["timestamp"]
    assert {"event": "missed by 3 s", "level": "warning", "logger": library, **BOUND} == line


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_the_lowest_that_is_shown(level: str, expected: list[str]) -> None:
    stream = io.StringIO()
    logs.configure(stream, level=level)

    for each in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), each)("job.claimed")

    assert expected == [line["level"] for line in _lines(stream)]


@pytest.mark.parametrize(
    ("style", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("pretty", io.StringIO, False),
    ],
)
def test_a_person_reads_pretty_lines_and_a_program_json(
    style: str, stream: type[io.StringIO], is_json: bool
) -> None:
    written = stream()
    logs.configure(written, style=style)

    structlog.get_logger().info("job.claimed")

    assert is_json == written.getvalue().startswith("{")
    assert "job.claimed" in written.getvalue()
    assert (style == "auto" and not is_json) == ("\x1b[" in written.getvalue())


def test_a_person_is_told_only_what_the_line_is_about() -> None:
    """The host's name in every line, a date and `reason=None` say nothing to somebody who sits before it."""
    written = io.StringIO()
    logs.configure(written, style="pretty", bound=BOUND)

    structlog.get_logger().info("job.completed", files=4, reason=None)

    (line,) = written.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info     ] job.completed +files=4", line)


def test_a_second_set_up_takes_the_place_of_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure(first)
    logs.configure(second)

    structlog.get_logger().info("job.claimed")
    logging.getLogger("apscheduler").warning("late")

    assert "" == first.getvalue()
    assert ["job.claimed", "late"] == [line["event"] for line in _lines(second)]


SECRET = "hunter22-hunter22"


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_no_secret_gets_into_a_line(style: str) -> None:
    """In the event, in a value, deep inside one, in a key, in a traceback, in a library's own words."""
    stream = io.StringIO()
    logs.configure(stream, style=style, secrets=[SECRET], bound={"agent_id": SECRET})
    log = structlog.get_logger().bind(bound=SECRET)

    log.info(f"job.{SECRET}", deep=[{"a": (SECRET, {SECRET})}], raw=SECRET.encode(), **{SECRET: 1})
    log.info("job.claimed", thing=RuntimeError(SECRET))
    logging.getLogger("urllib3").warning("sent %s", SECRET)
    try:
        raise RuntimeError(SECRET)
    except RuntimeError:
        log.exception("job.failed")

    assert MASK in stream.getvalue()
    assert "hunter22" not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key ovr_0123abcd is not valid", f"key {MASK} is not valid"),
        ("ovra_0123abcd", MASK),
        ("sk-proj-0123abcd", MASK),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {MASK}"),
        ("authorization: bearer abc.def-123", f"authorization: bearer {MASK}"),
        ("http://user:pass@proxy:3128/a", f"http://{MASK}@proxy:3128/a"),
        ("https://overmind.example/a@b", "https://overmind.example/a@b"),
        ("covr_nothing task-force disk-full", "covr_nothing task-force disk-full"),
        ("the bearer of a job", "the bearer of a job"),
        ("", ""),
    ],
)
def test_what_looks_like_a_key_is_masked(text: str, expected: str) -> None:
    assert expected == Redactor().text(text)


def test_a_value_under_a_telling_name_is_masked() -> None:
    values = {"Authorization": "x", "api_key": "y", "token": "z", "tokens": 12, "password": "", "event": "e"}

    masked = Redactor().value(values)

    assert values | {"Authorization": MASK, "api_key": MASK, "token": MASK} == masked


def test_a_key_that_came_later_is_masked_too() -> None:
    redactor = Redactor([SECRET])

    redactor.add("another/secret")

    assert f"{MASK} {MASK} {MASK}" == redactor.text(f"another/secret another%2Fsecret {SECRET}")


def test_a_secret_that_is_part_of_another_leaves_no_rest() -> None:
    assert MASK == Redactor(["secret-1", "secret-1-and-more"]).text("secret-1-and-more")


def test_a_short_secret_would_mask_too_much() -> None:
    assert "a short text" == Redactor(["short"]).text("a short text")


def test_a_value_without_a_bottom_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)

    masked = Redactor().value(endless)

    assert MAX_DEPTH == json.dumps(masked).count("[")


class Full(io.StringIO):
    """A stream on a disk that has no room until somebody makes some."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_lines_that_the_disk_did_not_take_are_counted_and_told() -> None:
    stream = Full()
    kept = logs.configure(stream)
    log = structlog.get_logger()

    log.info("job.claimed")
    log.info("job.started")
    stream.is_full = False
    log.info("job.completed")
    log.info("job.claimed")

    assert ["2 log lines were lost", "job.completed", "job.claimed"] == [line["event"] for line in _lines(stream)]
    assert 2 == kept.lost_lines


def test_a_line_that_cannot_be_made_is_counted_and_told() -> None:
    stream = io.StringIO()
    handler = logs.LineHandler(stream)

    for argument in ("not a number", 2):
        handler.handle(logging.LogRecord("any", logging.INFO, __file__, 1, "%d jobs", (argument,), None))

    assert "1 log lines were lost\n2 jobs\n" == stream.getvalue()
    assert 1 == handler.lost_lines


CHILD = """
import sys, structlog
from overmind_config import logs
kept = logs.configure(sys.stdout)
for number in range(2000):
    structlog.get_logger().info("job.claimed", number=number)
print(kept.lost_lines, file=sys.stderr)
"""


def _child(redirect: str) -> subprocess.CompletedProcess[str]:
    """Run CHILD with its standard output as the shell makes it; bash, since the pipe's own status counts."""
    command = f'"$0" -c "$1" {redirect}'
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command, sys.executable, CHILD],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("redirect", "lost"),
    [(">/dev/full", "2000"), (">&-", "0"), ("| true", None)],
    ids=["full", "closed", "nobody reads"],
)
def test_the_process_outlives_its_output(redirect: str, lost: str | None) -> None:
    """A real disk that is full, a closed descriptor and a pipe whose reader has gone: exit 0, nothing else said."""
    done = _child(redirect)

    assert 0 == done.returncode, done.stderr
    assert done.stderr.strip().isdecimal()
    assert lost in (None, done.stderr.strip())


def test_a_reader_that_does_not_read_is_not_waited_for() -> None:
    """As a log collector that hangs: no thread and no heartbeat waits for it, and what was lost is counted."""
    reading, writing = os.pipe()
    record = logging.LogRecord("x", logging.INFO, __file__, 0, "x" * 10_000, None, None)
    with os.fdopen(writing, "w") as stream:
        handler = logs.LineHandler(stream)
        began_s = time.monotonic()

        for _ in range(200):
            handler.emit(record)
        took_s = time.monotonic() - began_s
        lost = handler.lost_lines
        os.read(reading, 1 << 20)
        handler.emit(record)

    said = os.read(reading, 1 << 20)
    os.close(reading)
    assert lost > 190
    assert took_s < 10
    assert said.startswith(f"\n{lost} log lines were lost".encode())
