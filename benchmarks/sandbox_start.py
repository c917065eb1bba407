"""
What it costs to start a program of a job in each sandbox: `python benchmarks/sandbox_start.py [--runs 50] [--json]`.

Two programs: `true`, which does nothing, and a Python agent that returns its row. Each is run *runs* times at each level, the
levels taking turns, through the code that a job runs it with. Wall time is the median of the runs; processor time is
that of the program and of what started it, user and system, per run: it says less about what else the machine does.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

from overmind_executors.process import own_process
from overmind_executors.programs.commands import CommandLimits, run
from overmind_executors.sandbox.bubblewrap import View, words
from overmind_executors.sandbox.deciding import what_is_missing
from overmind_executors.sandbox.levels import Level, Sandbox
from overmind_executors.stopping import StopFlag

AGENT = "def answer(given):\n    return given\n"


def cpu_s() -> float:
    """Of this process and of all that it has waited for."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def starters(folder: Path, level: Level) -> dict[str, Callable[[], object]]:
    """Each program, to be run once at *level*."""
    sandbox = Sandbox(level=level)
    code = folder / "code"
    box = words(View({Path("/code"): code}), sandbox, folder / "own") if level is Level.BUBBLEWRAP else None
    watched = level is not Level.NONE
    limits = CommandLimits(
        60.0,
        1 << 20,
        256 << 20,
        memory_bytes=sandbox.memory_bytes if watched else None,
        processes=sandbox.processes if watched else None,
        folder_bytes=sandbox.disk_bytes if watched else None,
    )
    call = [
        sys.executable,
        "-P",
        "-m",
        "overmind_executors.programs.agent_call",
        "/code" if box else str(code),
        "main:answer",
    ]

    def start(command: list[str]) -> None:
        ended = run(command, cwd=folder, limits=limits, stop=StopFlag(), stdin=b'{"input": 1}', box=box)
        assert ended.code == 0, ended

    return {"true": lambda: start(["/usr/bin/true"]), "agent": lambda: start(call)}


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if why := what_is_missing(Sandbox()):
        print(why, file=sys.stderr)
        return 1
    own_process.adopt_orphans()  # whose processor time counts as well
    wall: dict[tuple[str, str], list[float]] = {}
    cpu: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory(prefix="sandbox-start-") as name:
        folder = Path(name)
        (folder / "code").mkdir()
        (folder / "code" / "main.py").write_text(AGENT)
        programs = {level.value: starters(folder, level) for level in Level}
        for _ in range(options.runs):
            for level, starts in programs.items():
                for program, start in starts.items():
                    began_s, used_s = time.perf_counter(), cpu_s()
                    start()
                    key = (program, level)
                    wall.setdefault(key, []).append(time.perf_counter() - began_s)
                    cpu[key] = cpu.get(key, 0.0) + cpu_s() - used_s
    found = [
        {
            "program": program,
            "sandbox": level,
            "wall_ms": round(1000 * statistics.median(seconds), 1),
            "cpu_ms": round(1000 * cpu[program, level] / options.runs, 1),
        }
        for (program, level), seconds in wall.items()
    ]
    if options.json:
        print(json.dumps(found))
        return 0
    for line in found:
        print("{program:6} {sandbox:11} {wall_ms:8.1f} ms wall {cpu_ms:8.1f} ms cpu".format(**line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
