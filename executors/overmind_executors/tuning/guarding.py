"""
What a gain does not buy: gates that fail more often than before, and limits that are broken, on the rows that
decide. A candidate that the test would promote is refused for them; they promote nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from overmind_executors.tuning.merits import CandidateLimits, merits_of
from overmind_executors.tuning.promotion import Decision, Verdict
from overmind_executors.tuning.sealed import Registration
from overmind_executors.tuning.trials import Trial

GATE_FAILED: Final = "gate_failed"
CONSTRAINT_BROKEN: Final = "constraint_broken"

Line = Mapping[str, Any]


def guarded(verdict: Verdict, lines: Sequence[Line], registration: Registration) -> Verdict:
    """*verdict*, or a refusal of what it promotes; *lines* are those of `comparison.jsonl`."""
    if verdict.decision is not Decision.PROMOTED:
        return verdict
    old, new = _trials(lines, "baseline"), _trials(lines, "candidate")
    before, after = (sum(trial.gate_failed for trial in side) for side in (old, new))
    if after > before:
        found = f"its outputs fail a gate {after} times, those of the prompt {before} times"
        return replace(verdict, decision=Decision.REFUSED, code=GATE_FAILED, why=found)
    broken = merits_of({}, new).broken(CandidateLimits(**registration.constraints))
    if broken is not None:
        return replace(verdict, decision=Decision.REFUSED, code=CONSTRAINT_BROKEN, why=broken)
    return verdict


def _trials(lines: Sequence[Line], side: str) -> list[Trial]:
    return [Trial.of_json(line["item_id"], trial) for line in lines for trial in line[side]]
