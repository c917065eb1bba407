"""
A large upload: how much memory and processor time `uploaded_outputs_setup` takes for it.

    python benchmarks/uploaded_outputs.py [--mib 1024] [--row-bytes 4000]

Writes a JSONL file of that size, rows of about that many bytes with inputs and outputs of words drawn from a seed,
one in fifty a near-duplicate, one in a hundred broken; takes it in with the executor as a job's process runs it;
and prints the resident memory before, its peak (sampled each tenth of a second), and the processor time. The file
and what is made of it lie in a temporary folder, which has to have room for three times the size.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import structlog

from overmind_executors.contract import Context
from overmind_executors.stopping import StopFlag
from overmind_executors.uploaded_outputs import UploadedOutputsExecutor

PAGE = 4096


def resident_mib() -> float:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / (1 << 20)


def write(path: Path, size_bytes: int, row_bytes: int) -> int:
    """The file; returns how many rows it has."""
    draw = random.Random(7)  # noqa: S311  # which words, no secret
    words = [f"word{n}" for n in range(50_000)]
    rows, left, last = 0, size_bytes, ""
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            text = " ".join(draw.choices(words, k=row_bytes // 20))
            if rows % 50 == 49:
                text = last + " and more"
            last = text
            line = json.dumps({"input": f"question {rows} {text[: row_bytes // 2]}", "output": text})
            if rows % 100 == 99:
                line = line[:-2]
            file.write(line + "\n")
            left -= len(line) + 1
            rows += 1
    return rows


class Peak:
    """The highest resident memory while it is watched."""

    def __init__(self) -> None:
        self.mib = resident_mib()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ends.wait(0.1):
            self.mib = max(self.mib, resident_mib())


def main() -> int:
    """Print the figures; 1 when the peak is 300 MiB or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--row-bytes", type=int, default=4000)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given = folder / "rows.jsonl"
        rows = write(given, options.mib << 20, options.row_bytes)
        output, state = folder / "output", folder / "state"
        output.mkdir()
        state.mkdir()
        context = Context(
            job_id="job", attempt=1, input_file=given, input_name="rows.jsonl", output=output, state=state,
            models={}, data_roots=(), report=lambda *_: None, stop=StopFlag(), log=structlog.get_logger(),
        )  # fmt: skip
        executor = UploadedOutputsExecutor()
        task = executor.validate({"format": "jsonl"})
        before, began_s, began_cpu_s = resident_mib(), time.monotonic(), time.process_time()
        with Peak() as peak:
            outcome = executor.run(task, context).outcome
        cpu_s, wall_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
    print(f"rows {rows:,}, accepted {outcome['rows_accepted']:,}, near duplicates {outcome['near_duplicates']}")
    print(f"resident memory: {before:.0f} MiB before, {peak.mib:.0f} MiB at its peak")
    print(f"processor time {cpu_s:.0f} s ({1e6 * cpu_s / rows:.0f} µs for a row), {wall_s:.0f} s by the clock")
    return int(peak.mib >= 300)


if __name__ == "__main__":
    sys.exit(main())
