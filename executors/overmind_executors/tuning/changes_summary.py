"""What a job came to, in a few sentences: `changes_summary`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overmind_executors.tuning.promotion import NOTABLE
from overmind_executors.tuning.search import FEW, HOPELESS
from overmind_executors.tuning.texts import MAX_SUMMARY

NO_HEADROOM = "no_headroom"


def summary_of(facts: Mapping[str, Any], changed: str, barred: str = "") -> str:
    """
    At most `MAX_SUMMARY` characters.

    Args:
        facts: the outcome, without this.
        changed: what the best candidate changes.
        barred: of a candidate that scored higher than all that may win, its name, mean and what it broke.
    """
    test = facts["test"]
    if facts["termination_reason"] == HOPELESS:
        return (
            f"Not changed: neither the prompt nor any of the first {FEW} candidates scored on a single row. "
            "Look at the evaluators, the judge and the model first."
        )
    if facts["verdict"] == NO_HEADROOM:
        return f"Not changed: the prompt scores {facts['baseline_score']:.1f} of 100, which leaves nothing to gain."
    if facts["verdict"] == "no_better_candidate":
        who, but = (" that may win", f"; {barred}") if barred else ("", "")
        return f"Not changed: no candidate{who} scored higher than the prompt on the validation rows{but}."
    if test is None:
        return f"Not promoted: no test was asked for. The best candidate so far:\n{changed}"[:MAX_SUMMARY]
    seen = f"{test['compared']} held-out rows"
    if facts["promoted"]:
        low, high = (100 * end for end in test["gain_interval_95"])
        gain = f"+{100 * test['gain']:.1f} points (95 %: {low:+.1f} to {high:+.1f}) on {seen}"
        return f"Promoted: {gain}, p = {test['p_value']:.2g}.\n{changed}"[:MAX_SUMMARY]
    if test["gain"] is None:
        return f"Not promoted: the test could not be finished ({test['code']})."
    if test["why"]:
        return f"Not promoted, though it gains {100 * test['gain']:+.1f} points on {seen}: {test['why']}."
    needed = (
        f" About {test['rows_needed']} held-out rows would show {_size_of(facts)}." if test["rows_needed"] else ""
    )
    why = "is no better" if facts["verdict"] == "refused" else "cannot be told from chance"
    return (
        f"Not promoted: on {seen} the best candidate {why} "
        f"({100 * test['gain']:+.1f} points, p = {test['p_value']:.2g}).{needed}"
    )


def _size_of(facts: Mapping[str, Any]) -> str:
    """The gain that so many rows are needed for."""
    is_seen = facts["test"]["gain"] > facts["registration"]["margin"]
    return "a gain of this size" if is_seen else f"a gain of {100 * NOTABLE:.0f} points"
