"""The server's own log: JSON lines, in which an error that comes again and again does not fill a disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from overmind_config.repeats import EVERY_S
from overmind_controlplane.serving.server import set_up_logging


@pytest.fixture
def now_s() -> Iterator[list[float]]:
    """The time that the log goes by; the logging of the process is put back afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield [0.0]
    root.handlers[:], root.level = before, level
    structlog.reset_defaults()


def test_an_error_that_repeats_is_said_once_a_minute_with_how_often_it_came(
    now_s: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    lines = set_up_logging("info", now_s=lambda: now_s[0])
    log = structlog.get_logger("overmind_controlplane.serving.app")

    for _ in range(1000):
        log.warning("database.away", error="OperationalError")
    at_once = capfd.readouterr().err
    now_s[0] += EVERY_S
    lines.tell_repeats()

    (first,) = map(json.loads, at_once.splitlines())
    (later,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert first.pop("timestamp")
    assert {
        "event": "database.away",
        "error": "OperationalError",
        "level": "warning",
        "logger": "overmind_controlplane.serving.app",
    } == first
    assert 999 == later["times"]


def test_a_bug_comes_with_its_traceback_and_what_is_no_error_is_said_each_time(
    now_s: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("info", now_s=lambda: now_s[0])
    log = structlog.get_logger("overmind_controlplane")

    for _ in range(2):
        log.info("page.served", url="http://127.0.0.1/")
    try:
        raise ValueError("a bug")
    except ValueError:
        log.exception("request.failed", error_id="1")
    logging.getLogger("uvicorn").warning("late by %d s", 3)

    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert ["page.served", "page.served", "request.failed", "late by 3 s"] == [line["event"] for line in said]
    assert "ValueError: a bug" in said[2]["exception"]
