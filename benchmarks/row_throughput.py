"""
Rows a second, and memory, of the `inference` executor against a server that answers at once.

    python benchmarks/row_throughput.py [--rows 20000] [--at-once 16]

The server is a process of its own with a fixed answer, so that what is measured is ours: reading, asking,
journalling with a sync, writing. Prints one JSON object; `growth_mib` is the growth of the resident memory after
the first tenth of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import structlog

from overmind_executors.contract import Context, ModelEndpoint
from overmind_executors.inference import InferenceExecutor
from overmind_executors.stopping import StopFlag

BODY = json.dumps(
    {
        "id": "c",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def serve() -> None:
    """Answer every request on every connection at once; the port goes to standard output."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as lines:
        length = 0
        for line in lines:
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            if line == b"\r\n":
                lines.read(length)
                connection.sendall(ANSWER)


class Memory:
    """Resident memory, noted as the rows go by."""

    def __init__(self) -> None:
        self.at_tenth = 0
        self.most = 0

    def note(self, step: int, total: int, _name: str) -> None:
        """The port `report`."""
        if step % 500 == 0 or step == total:
            now = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            self.at_tenth = now if step <= total / 10 else self.at_tenth
            self.most = max(self.most, now)


def measure(rows: int, at_once: int, port: int) -> dict[str, float]:
    """One job over *rows* rows."""
    with tempfile.TemporaryDirectory(prefix="overmind-benchmark-") as name:
        folder, memory = Path(name), Memory()
        (folder / "output").mkdir()
        (folder / "state").mkdir()
        with (folder / "rows.jsonl").open("w") as file:
            for number in range(rows):
                file.write(
                    json.dumps({"id": f"row-{number}", "input": f"is {number} a number?", "expected_output": "yes"})
                    + "\n"
                )
        endpoint = ModelEndpoint("fast", f"http://127.0.0.1:{port}/v1", "fast", max_concurrency=at_once)
        context = Context(
            job_id="job",
            attempt=1,
            input_file=folder / "rows.jsonl",
            input_name="rows.jsonl",
            output=folder / "output",
            state=folder / "state",
            models={"fast": endpoint},
            data_roots=(),
            report=memory.note,
            stop=StopFlag(),
            log=structlog.get_logger(),
        )
        executor = InferenceExecutor()
        task = executor.validate({"target": {"model": "fast"}, "concurrency": at_once})
        began = time.monotonic()
        result = executor.run(task, context)
        seconds = time.monotonic() - began
    assert rows == result.outcome["accuracy"]["correct"]
    return {
        "rows": rows,
        "at_once": at_once,
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / seconds, 1),
        "growth_mib": round((memory.most - memory.at_tenth) / 2**20, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Start the server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        print(json.dumps(measure(options.rows, options.at_once, int(server.stdout.readline()))))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
