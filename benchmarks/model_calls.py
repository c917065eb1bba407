"""
Rows asked of a chat model: rows a second, what is used of a provider's limits, and memory, beside two packages.

    python benchmarks/model_calls.py [--rows 1500] [--many 20000] [--most 200000] [--tools overmind,inspect-ai]

One server, a process of its own, plays three providers at three addresses:

    fast      answers at once
    crowded   takes 32 calls at a time, each of log-normal length (median 0.5 s), and refuses others with 429
    paced     takes 40 calls a second and 20 at once, each of that length, and refuses others with 429

A refusal says nothing but 429. Each package is a process of its own, one after the other, asks the same questions
with one and the same setting, at most 100 calls at a time, and otherwise has its own defaults; but for
async-batch-llm, which would stop for 300 s at each refusal, and is told 1 s. `efficiency` is the shortest possible
time over the time taken, from the first call to the last answer; `refusals` are the 429s for a hundred rows.
`rows_per_s` is on `fast`, for the whole run of the package without its imports; `peak_mib` is the process's.
`growth_mib` is the growth of the resident memory after the first tenth of the rows, for our own executor alone.

What they do differs: ours journals each call to disk with a sync before and after it, and writes result files;
inspect-ai writes a log with all samples; async-batch-llm keeps results in memory. Needs the packages of the group:

    pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AT_ONCE = 100
MOST_S = 900.0
CROWD, PER_S, BURST, MEDIAN_S, SPREAD = 32, 40.0, 20.0, 0.5, 0.5
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()
REFUSAL = b'{"error": {"message": "too many requests", "type": "requests", "code": "rate_limit_exceeded"}}'


# ------------------------------------------------------------------------------------------------- the server


class Provider:
    """One of the three, and what it has seen."""

    def __init__(self, kind: str) -> None:
        self.kind, self.draw = kind, random.Random(7)  # noqa: S311
        self.inside, self.left, self.at_s = 0, BURST, 0.0
        self.refused, self.worked_s, self.taken = 0, 0.0, 0
        self.first_s, self.last_s = 0.0, 0.0

    async def answer(self) -> tuple[int, bytes]:
        """What a call gets, after its time."""
        now_s = time.monotonic()
        self.first_s = self.first_s or now_s
        if not self._takes(now_s):
            self.refused += 1
            return 429, REFUSAL
        self.taken += 1
        if self.kind != "fast":
            latency_s = self.draw.lognormvariate(math.log(MEDIAN_S), SPREAD)
            self.worked_s += latency_s
            self.inside += 1
            await asyncio.sleep(latency_s)
            self.inside -= 1
        self.last_s = time.monotonic()
        return 200, ANSWER

    def _takes(self, now_s: float) -> bool:
        if self.kind == "crowded":
            return self.inside < CROWD
        if self.kind == "paced":
            self.left = min(BURST, self.left + (now_s - (self.at_s or now_s)) * PER_S)
            self.at_s = now_s
            if self.left < 1:
                return False
            self.left -= 1
        return True

    def facts(self) -> dict[str, float]:
        """Since the last time that somebody asked."""
        shortest_s = self.worked_s / CROWD if self.kind == "crowded" else (self.taken - BURST) / PER_S
        took_s = self.last_s - self.first_s
        return {"taken": self.taken, "refused": self.refused, "efficiency": shortest_s / took_s if took_s else 0.0}


async def serve() -> None:
    """`POST /<kind>/v1/chat/completions`, and `GET /<kind>/facts`, which begins anew; prints the port."""
    providers = {kind: Provider(kind) for kind in ("fast", "crowded", "paced")}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                verb, path = head.split(b" ", 2)[:2]
                length = next(
                    (int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0
                )
                await reader.readexactly(length)
                kind = path.decode().split("/")[1]
                if verb == b"GET":
                    status, body = 200, json.dumps(providers[kind].facts()).encode()
                    providers[kind] = Provider(kind)
                else:
                    status, body = await providers[kind].answer()
                writer.write(
                    b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, len(body), body)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# ------------------------------------------------------------------------------------------------- the packages


def overmind(url: str, rows: int, folder: Path) -> tuple[int, float, dict[str, float]]:
    """Our executor, as a job's process runs it."""
    import structlog

    from overmind_executors.contract import Context, ModelEndpoint
    from overmind_executors.inference import InferenceExecutor
    from overmind_executors.stopping import StopFlag

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    for name in ("output", "state"):
        (folder / name).mkdir()
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": f"row-{n}", "input": question(n)}) + "\n" for n in range(rows))
    memory = Memory()
    context = Context(
        job_id="job",
        attempt=1,
        input_file=folder / "rows.jsonl",
        input_name="rows.jsonl",
        output=folder / "output",
        state=folder / "state",
        models={"m": ModelEndpoint("m", url, "m", max_concurrency=AT_ONCE)},
        data_roots=(),
        report=memory.note,
        stop=StopFlag(),
        log=structlog.get_logger(),
    )
    executor = InferenceExecutor()
    task = executor.validate({"target": {"model": "m"}, "concurrency": AT_ONCE})
    began_s = time.monotonic()
    result = executor.run(task, context)
    seconds = time.monotonic() - began_s
    growth = {"growth_mib": round((memory.most - memory.at_tenth) / 2**20, 1)} if memory.at_tenth else {}
    return int(result.outcome["counts"]["ok"]), seconds, growth


def async_batch_llm(url: str, rows: int, _folder: Path) -> tuple[int, float, dict[str, float]]:
    """The package of that name, with the OpenAI client that it wraps."""
    from async_batch_llm import ProcessorConfig, RateLimitConfig, llm, process_prompts

    async def run() -> Any:
        model = llm("openai-compatible:m", base_url=url, api_key="none", max_connections=AT_ONCE)
        pause = RateLimitConfig(cooldown_seconds=1.0, max_cooldown_seconds=10.0)
        config = ProcessorConfig(concurrency=AT_ONCE, rate_limit=pause)
        return await process_prompts(model, [question(n) for n in range(rows)], config=config)

    began_s = time.monotonic()
    batch = asyncio.run(run())
    return sum(result.success for result in batch.results), time.monotonic() - began_s, {}


def inspect_ai(url: str, rows: int, folder: Path) -> tuple[int, float, dict[str, float]]:
    """The package of that name: a task without a scorer."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.solver import generate

    task = Task(dataset=MemoryDataset([Sample(input=question(n)) for n in range(rows)]), solver=generate())
    began_s = time.monotonic()
    (log,) = evaluate(
        task,
        model="openai-api/bench/m",
        model_base_url=url,
        max_connections=AT_ONCE,
        max_samples=AT_ONCE,
        display="none",
        log_dir=str(folder),
        log_format="eval",
        fail_on_error=False,
    )
    seconds = time.monotonic() - began_s
    return sum(bool(sample.output.choices) and not sample.error for sample in log.samples or ()), seconds, {}


TOOLS: dict[str, Callable[[str, int, Path], tuple[int, float, dict[str, float]]]] = {
    "overmind": overmind,
    "async-batch-llm": async_batch_llm,
    "inspect-ai": inspect_ai,
}


def question(number: int) -> str:
    """A different one for each row."""
    return f"is {number} a number?"


class Memory:
    """Resident memory, noted as the rows go by."""

    def __init__(self) -> None:
        self.at_tenth = self.most = 0

    def note(self, step: int, total: int, _name: str) -> None:
        """The port `report`."""
        if step % 500 == 0 or step == total:
            now = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            self.at_tenth = now if step <= total / 10 else self.at_tenth
            self.most = max(self.most, now)


# ------------------------------------------------------------------------------------------------- measuring


@contextmanager
def server() -> Iterator[str]:
    """The three providers' address."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def run_tool(name: str, kind: str, rows: int, address: str) -> dict[str, Any]:
    """One package over *rows* rows, in a process of its own."""
    environment = {**os.environ, "BENCH_API_KEY": "none", "BENCH_BASE_URL": f"{address}/{kind}/v1"}
    command = [sys.executable, __file__, "--tool", name, "--url", f"{address}/{kind}/v1", "--rows", str(rows)]
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=MOST_S
        )
    except subprocess.TimeoutExpired:
        return {"tool": name, "provider": kind, "rows": rows, "failed": f"not done after {MOST_S:g} s"}
    with urllib.request.urlopen(f"{address}/{kind}/facts") as answer:  # noqa: S310  # our own
        seen = json.loads(answer.read())
    if ended.returncode:
        return {"tool": name, "provider": kind, "failed": ended.stderr.strip().splitlines()[-1:]}
    facts = json.loads(ended.stdout.splitlines()[-1])
    found = {"tool": name, "provider": kind, "rows": rows, **facts}
    if kind != "fast":
        refusals = round(100 * seen["refused"] / rows, 1)
        return {**found, "efficiency": round(seen["efficiency"], 3), "refusals": refusals}
    return {**found, "rows_per_s": round(facts["ok"] / facts["seconds"], 1)}


def be_tool(name: str, url: str, rows: int) -> None:
    """What the process of one package prints."""
    with tempfile.TemporaryDirectory(prefix="overmind-benchmark-") as folder:
        ok, seconds, more = TOOLS[name](url, rows, Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime
    facts = {
        "ok": ok,
        "seconds": round(seconds, 2),
        "cpu_s": round(cpu_s, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
    }
    print(json.dumps({**facts, **more}))


def main() -> None:
    """Measure one after the other; a line of JSON for each."""
    parser = argparse.ArgumentParser(description="Rows asked of a chat model; the head of this file says how.")
    parser.add_argument("--rows", type=int, default=1500, help="rows for the limited providers")
    parser.add_argument("--many", type=int, default=20_000, help="rows for the fast one")
    parser.add_argument("--most", type=int, default=200_000, help="rows for our own memory; 0 leaves that out")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    elif options.tool:
        be_tool(options.tool, options.url, options.rows)
    else:
        with server() as address:
            for kind, rows in (("crowded", options.rows), ("paced", options.rows), ("fast", options.many)):
                for name in options.tools.split(","):
                    print(json.dumps(run_tool(name, kind, rows, address)), flush=True)
            if options.most:
                print(json.dumps(run_tool("overmind", "fast", options.most, address)), flush=True)


if __name__ == "__main__":
    main()
