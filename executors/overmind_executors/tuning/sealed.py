"""
The rows that decide: put away before the search begins, taken out once, after it is written down how they decide.

```
seal(rows) ─▶ held_out.json ─ … the search … ─▶ open(registration) ─▶ registration.json, then the rows
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from overmind_executors import durable, strict_json
from overmind_executors.contract import ExecutionFailed
from overmind_executors.rows.rows import Row
from overmind_executors.tuning.splitting import Case

REPLAY_MISMATCH: Final = "replay_mismatch"


@dataclass(frozen=True)
class Registration:
    """
    What is decided, and how, before the rows that decide are looked at.

    Attributes:
        alpha: the chance of a promotion when there is no gain, of the one-sided test.
        margin: the gain, in 0 to 1, that has to be exceeded.
        repeats: how often both sides are asked about each row.
        rows: how many decide; floor: the share of them that must be scored on both sides.
        baseline, candidate: digests of the texts.
        constraints: what the candidate must keep to there, by name; none for no entry.
    """

    alpha: float
    margin: float
    repeats: int
    rows: int
    floor: float
    baseline: str
    candidate: str
    constraints: Mapping[str, float] = field(default_factory=dict)


class Sealed:
    """
    The held-out rows, on disk. The search has no reference to this object, and nobody has one to the rows.

    Attributes:
        rows, groups: how many were put away, and of how many groups of near-duplicates.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = folder / "held_out.json"
        self._registration = folder / "registration.json"
        self.rows = self.groups = 0

    def seal(self, cases: Sequence[Case]) -> None:
        """Put *cases* away; the same ones again change nothing."""
        lines = [{"group": case.group, "row": asdict(case.row)} for case in cases]
        durable.write(self._rows, strict_json.dumps(lines).encode())
        self.rows, self.groups = len(cases), len({case.group for case in cases})

    def open(self, registration: Registration) -> list[Case]:
        """
        The rows, once *registration* is on disk.

        Raises:
            ExecutionFailed: they were opened for another candidate or another test before.
        """
        told = asdict(registration)
        if self._registration.exists():
            if strict_json.loads(self._registration.read_bytes()) != told:
                raise ExecutionFailed(
                    "the held-out rows were opened before, for another test; a job opens them once",
                    reason=REPLAY_MISMATCH,
                )
        else:
            durable.write(self._registration, strict_json.dumps(told).encode())
        lines: list[dict[str, Any]] = strict_json.loads(self._rows.read_bytes())
        return [Case(Row(**line["row"]), line["group"]) for line in lines]
