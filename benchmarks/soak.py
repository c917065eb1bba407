"""
Whether anything grows: agents and a control plane at work for a long time, with one request of twenty spoiled.

    make soak MINUTES=60
    .venv/bin/python benchmarks/soak.py --minutes 60 [--seed 7] [--json]

Four agents of two slots each do jobs of 3 to 5 seconds, about a hundred a minute, over a real control plane;
the proxy between them spoils 5 % of all requests, in the ways of `make chaos`, and nobody is killed. Every five
seconds the memory (resident), the open descriptors and the threads of each process are read from /proc, and the
sizes of the database and of each state folder. The first fifth is warming up. Of what is left the first and the
last fifth are compared: the median of memory, the lowest count of descriptors and threads, since a transfer
opens some for its time.

Ends with 1 when an agent has grown by 10 MB or more, by more than 2 descriptors or 1 thread, when its state
folder has more than 64 MiB at the end, or when the record breaks a rule about histories.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "acceptance")]

import chaos  # noqa: E402

from overmind_agent.testing.invariants import violations  # noqa: E402
from server import start_control_plane  # noqa: E402

AGENTS: Final = 4
JOBS_A_MINUTE: Final = 100
SAMPLE_S: Final = 5.0
MOST_BYTES: Final = 10_000_000
MOST_DESCRIPTORS: Final = 2
MOST_THREADS: Final = 1
MOST_STATE_BYTES: Final = 64 << 20
# Rows of the table: what it is, and how the samples of a stretch of time become one number.
FIGURES: Final[dict[str, Callable[[Sequence[int]], float]]] = {
    "memory": statistics.median,
    "descriptors": min,
    "threads": min,
    "disk": max,
}


@dataclass(frozen=True)
class Course:
    """One figure of one process: at the beginning, once warm, at the end, and at its peak."""

    who: str
    figure: str
    warm: float
    end: float
    peak: int

    @property
    def grown(self) -> float:
        """By how much."""
        return self.end - self.warm


class Samples:
    """
    What is read from /proc and from the disk, again and again.

    Args:
        folder: of the run: the agents' folders are in it, and their command lines name them.
        server: the process number of the control plane.
    """

    def __init__(self, folder: Path, server: int) -> None:
        self._folder = folder
        self._server = server
        self._due_s = 0.0
        self.values: dict[tuple[str, str], list[int]] = defaultdict(list)

    def take(self, now_s: float) -> None:
        """Look, if it is time to."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + SAMPLE_S
        for name, pid in [("control plane", self._server), *self._agents()]:
            with suppress(OSError):
                self._look(name, Path(f"/proc/{pid}"))
        for number in range(AGENTS):
            state = self._folder / f"agent-{number}" / "state"
            self.values[f"agent-{number}", "disk"].append(_size_of(state))
        self.values["control plane", "disk"].append(_size_of(self._folder / "plane"))

    def _look(self, name: str, place: Path) -> None:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        self.values[name, "memory"].append(int(status["VmRSS"].split()[0]) * 1024)
        self.values[name, "threads"].append(int(status["Threads"]))
        self.values[name, "descriptors"].append(len(list((place / "fd").iterdir())))

    def _agents(self) -> list[tuple[str, int]]:
        """The daemons of this run, by the configuration that their command lines name."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                config = next((Path(w.decode()) for w in words if w.endswith(b"agent.toml")), None)
                if b"run" in words and config is not None and config.is_relative_to(self._folder):
                    found.append((config.parent.name, int(entry.name)))
        return found

    def courses(self) -> list[Course]:
        """What became of each figure."""
        made = []
        for (who, figure), values in sorted(self.values.items()):
            warm = values[len(values) // 5 :]
            fifth = max(1, len(warm) // 5)
            of = FIGURES[figure]
            made.append(Course(who, figure, of(warm[:fifth]), of(warm[-fifth:]), max(values)))
        return made


def _size_of(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):  # what goes meanwhile is left out
        for name in names:
            with suppress(OSError):
                size += Path(place, name).lstat().st_blocks * 512
    return size


def _faults(course: Course) -> str | None:
    """What *course* is too much of, None when it is well."""
    if course.who == "control plane":
        return None  # its record grows with every job, and SQLite's cache with it up to its limit
    most = {"memory": MOST_BYTES, "descriptors": MOST_DESCRIPTORS, "threads": MOST_THREADS}
    if course.figure == "disk":
        return f"{course.who} has {course.end:,.0f} bytes on disk" if course.end > MOST_STATE_BYTES else None
    limit = most[course.figure]
    is_much = course.grown >= limit if course.figure == "memory" else course.grown > limit
    return f"{course.figure} of {course.who} grew by {course.grown:,.0f}" if is_much else None


def soak(minutes: float, seed: int, folder: Path) -> tuple[chaos.Ran, list[Course]]:
    """One run, and what it came to."""
    profile = chaos.Profile(
        agents=AGENTS,
        jobs=round(minutes * JOBS_A_MINUTE),
        work_s=(3.0, 5.0),
        faults=0.05,
        lease_s=20.0,
        storm_s=minutes * 120,
        patience_s=minutes * 120 + 120,
    )
    with start_control_plane(folder, lease_s=profile.lease_s) as plane:
        assert plane.process is not None
        assert plane.process.pid is not None
        samples = Samples(folder, plane.process.pid)
        ran = chaos.run(profile, seed, folder, plane, meanwhile=samples.take)
    return ran, samples.courses()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ran, courses = soak(told.minutes, told.seed, Path(folder))
    faults = [*violations(ran.history), *filter(None, map(_faults, courses))]
    if told.json:
        print(json.dumps([vars(course) for course in courses]))
    else:
        print(f"seed {told.seed}: {ran}\n")
        print("| | | once warm | at the end | grown by | peak |\n|---|---|---|---|---|---|")
        for course in courses:
            unit, size = ("MB", 1e6) if course.figure in ("memory", "disk") else ("", 1)
            shown = (f"{value / size:.{1 if unit else 0}f}" for value in (course.warm, course.end, course.grown))
            print(f"| {course.who} | {course.figure} {unit} | {' | '.join(shown)} | {course.peak / size:.1f} |")
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
