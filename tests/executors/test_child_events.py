"""What a child tells while it works: executors of others call `report` with anything."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from overmind_executors.process.events import Events


def _told(*reports: tuple[Any, Any, Any]) -> list[tuple[int, int, str]]:
    """What the parent hears of *reports*, the last of them at least."""
    reader, writer = os.pipe()
    events = Events(writer, every_s=0.001)
    events.start()
    for report in reports:
        events.progress(*report)
    events.close()
    os.close(writer)
    with os.fdopen(reader) as lines:
        heard = [json.loads(line) for line in lines]
    return [(event["step"], event["total_steps"], event["step_name"]) for event in heard]


ODD: dict[str, tuple[Any, Any, Any]] = {
    "NaN": (float("nan"), 10, "rows"),
    "1e300": (1e300, 10, "rows"),
    "a float": (1.0, 10, "rows"),
    "10 ** 300": (10**300, 10, "rows"),
    "2 ** 63": (2**63, 10, "rows"),
    "negative": (-1, 10, "rows"),
    "a bool": (True, 10, "rows"),
    "a string": ("7", 10, "rows"),
    "nothing": (None, None, None),
    "infinitely many": (1, float("inf"), "rows"),
    "fewer than none": (1, -1, "rows"),
    "a name of another kind": (1, 10, ["rows"]),
    "objects": (object(), object(), object()),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_a_progress_that_is_none_is_not_told_and_fails_nothing(odd: tuple[Any, Any, Any]) -> None:
    """First and last: neither does it hide what was told before, nor end the thread that tells."""
    told = _told(odd, (2, 3, "rows"), odd)

    assert [(2, 3, "rows")] == told


def test_a_step_is_named_in_text_that_can_be_sent() -> None:
    assert [(1, 3, "?" + "x" * 99)] == _told((1, 3, "\ud800" + "x" * 500))


PACES: dict[str, tuple[Any, Any, dict[str, float]]] = {
    "both": (0.41, 310.0, {"usd": 0.41, "eta_s": 310.0}),
    "one": (None, 310, {"eta_s": 310}),
    "none": (None, None, {}),
    "no figures": ("much", float("nan"), {}),
    "too many": (float("inf"), -1.0, {}),
}


@pytest.mark.parametrize(("usd", "eta_s", "told"), PACES.values(), ids=PACES.keys())
def test_what_was_spent_goes_with_the_step(usd: Any, eta_s: Any, told: dict[str, float]) -> None:
    reader, writer = os.pipe()
    events = Events(writer, every_s=0.001)
    events.start()
    events.pace(usd, eta_s)
    events.progress(2, 3, "rows")
    events.close()
    os.close(writer)

    with os.fdopen(reader) as lines:
        heard = [json.loads(line) for line in lines]

    assert [{"event": "progress", "step": 2, "total_steps": 3, "step_name": "rows", **told}] == heard
