"""
An `inference` job and a provider that is dead, that fails now and then, or that suddenly grants twice as much.

    python benchmarks/faulty_providers.py [--rows 10000]

The executor runs as in a job's process, with its own defaults, 64 rows at once, against a loop-back server in a
process of its own:

    away      nobody listens; 1,000 rows
    broken    answers 500 to everything; 1,000 rows
    full      answers 503 to everything; 1,000 rows
    silent    takes calls and answers none; 1,000 rows
    heads     sends the heads of answers, and nothing behind them; 1,000 rows
    drips     sends a byte of an answer now and then; 1,000 rows
    faulty    15 of 100 rows meet a fault, by their digest: a lasting 400, a refusal, an answer cut at the limit of
              tokens, no JSON, a 500 or a 408 that passes; the output has to have a line for each row, in order
    doubling  takes 20 calls a second, and 40 from 20 s after the first call on; what is used of the 40 in the
              last 15 s of the first minute after that

`seconds` are those of the clock, from the start of the job to its end. Prints a table; ends with 1 when an aim is
not reached. Takes some six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from overmind_executors.contract import Context, ExecutionFailed, ModelEndpoint
from overmind_executors.inference import InferenceExecutor
from overmind_executors.stopping import StopFlag

DEAD_ROWS, DEAD_S, DEAD_SHARE = 1000, 60.0, 0.1
PER_S, DOUBLES_AFTER_S, WATCHED_S, LAST_S = 20.0, 20.0, 60.0, 15.0


def completion(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


GOOD = completion({"content": "yes"})
REFUSAL = b'{"error": {"message": "no", "code": "no"}}'
# What a row meets, by the first byte of its digest; 38 of 256 are 15 in a hundred. True: only the first time.
FAULTS: tuple[tuple[str, int, bytes, bool], ...] = (
    ("bad_request", 400, REFUSAL, False),
    ("refused", 200, completion({"content": None, "refusal": "no"}), False),
    ("truncated", 200, completion({"content": "y"}, "length"), False),
    ("invalid_response", 200, b"<html>", False),
    ("ok", 500, REFUSAL, True),
    ("ok", 408, REFUSAL, True),
)
FAULTY_BYTES = 38
# What comes of those that never end an answer, and whether they go on.
UNENDING = {"silent": (b"", False), "heads": (b"HTTP/1.1 200 x\r\nContent-Length: 9999\r\n\r\n", False)}
UNENDING["drips"] = (UNENDING["heads"][0], True)


def fault_of(text: str) -> tuple[str, int, bytes, bool] | None:
    """What happens to the row *text*."""
    first = hashlib.sha256(text.encode()).digest()[0]
    return FAULTS[first % len(FAULTS)] if first < FAULTY_BYTES else None


async def serve() -> None:
    """`POST /<kind>/v1/chat/completions`, `GET /<kind>/facts`; prints the port."""
    calls: Counter[str] = Counter()
    taken: list[float] = []
    seen: set[str] = set()
    left, at_s = PER_S, time.monotonic()

    def answer(kind: str, body: bytes) -> tuple[int, bytes]:
        nonlocal left, at_s
        calls[kind] += 1
        if kind in ("broken", "full"):
            return {"broken": 500, "full": 503}[kind], REFUSAL
        if kind == "faulty":
            text = json.loads(body)["messages"][-1]["content"]
            found = fault_of(text)
            if found is None or (found[3] and text in seen):
                return 200, GOOD
            seen.add(text)
            return found[1], found[2]
        now_s = time.monotonic()
        rate = PER_S * (1 + bool(taken and now_s - taken[0] >= DOUBLES_AFTER_S))
        left, at_s = min(PER_S, left + (now_s - at_s) * rate), now_s
        if left < 1:
            return 429, REFUSAL
        left -= 1
        taken.append(now_s)
        return 200, GOOD

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                verb, path = head.split(b" ", 2)[:2]
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
                kind = path.decode().split("/")[1]
                if verb == b"GET":
                    after = [at - taken[0] - DOUBLES_AFTER_S for at in taken]
                    last = sum(WATCHED_S - LAST_S <= at < WATCHED_S for at in after)
                    status, said = 200, json.dumps({"calls": calls[kind], "last": last}).encode()
                elif kind in UNENDING:
                    calls[kind] += 1
                    start, goes_on = UNENDING[kind]
                    writer.write(start)
                    while True:
                        await asyncio.sleep(0.2)
                        writer.write(b" " * goes_on)
                        await writer.drain()
                else:
                    status, said = answer(kind, body)
                    if kind == "doubling" and status == 200:
                        await asyncio.sleep(0.5)
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(said), said))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server() -> Iterator[str]:
    """Its address."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def facts(url: str, kind: str) -> dict[str, Any]:
    """What the server has seen."""
    import requests

    found: dict[str, Any] = requests.get(f"{url}/{kind}/facts", timeout=10).json()
    return found


def run(url: str, rows: int, **more: Any) -> tuple[dict[str, Any] | str, float, list[dict[str, Any]]]:
    """The outcome of a job, or why it failed; its seconds; its lines."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given = folder / "rows.jsonl"
        given.write_text("".join(json.dumps({"id": f"r{n}", "input": f"row {n}"}) + "\n" for n in range(rows)))
        (folder / "output").mkdir()
        (folder / "state").mkdir()
        context = Context(
            job_id="job", attempt=1, input_file=given, input_name="rows.jsonl", output=folder / "output",
            state=folder / "state", models={"m": ModelEndpoint("m", url, "m", max_concurrency=64)}, data_roots=(),
            report=lambda *_: None, stop=StopFlag(), log=structlog.get_logger(),
        )  # fmt: skip
        executor = InferenceExecutor()
        task = executor.validate({"target": {"model": "m"}, "max_items": 0, "concurrency": 64, **more})
        began_s = time.monotonic()
        try:
            outcome: dict[str, Any] | str = dict(executor.run(task, context).outcome)
        except ExecutionFailed as error:
            outcome = error.reason
        took_s = time.monotonic() - began_s
        lines = [json.loads(line) for line in (folder / "output" / "output.jsonl").read_text().splitlines()]
        return outcome, took_s, lines


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    missed = 0

    def line(name: str, figure: str, aim: str, is_reached: bool) -> None:
        nonlocal missed
        missed += not is_reached
        print(f"| {name} | {figure} | {aim}{'' if is_reached else ': **not reached**'} |", flush=True)

    print("| | measured | aim |\n|---|---|---|")
    with server() as url:
        for kind in ("away", "broken", "full", *UNENDING):
            address = "http://127.0.0.1:9/v1" if kind == "away" else f"{url}/{kind}/v1"
            outcome, took_s, _ = run(address, DEAD_ROWS)
            calls = facts(url, kind)["calls"]
            is_soon = isinstance(outcome, str) and took_s <= DEAD_S and calls <= DEAD_ROWS * DEAD_SHARE
            shown = f"failed with {outcome} after {took_s:.1f} s and {calls} calls"
            line(f"{kind}, {DEAD_ROWS:,} rows", shown, "60 s, 100 calls", is_soon)
        _, took_s, lines = run(f"{url}/faulty/v1", options.rows, stop_after_errors=0)
        wanted = Counter((fault_of(f"row {n}") or ("ok",))[0] for n in range(options.rows))
        found = Counter(one["x_overmind"]["outcome"] for one in lines)
        in_order = [one["custom_id"] for one in lines] == [f"r{n}" for n in range(options.rows)]
        either = all((one["response"] is None) != (one["error"] is None) for one in lines)
        name = f"faulty, {options.rows:,} rows: a line for each, in order, each planted kind counted exactly"
        shown = ", ".join(f"{count:,} {kind}" for kind, count in found.most_common())
        line(name, f"{shown}; {took_s:.0f} s", "all", in_order and either and found == wanted)
        run(f"{url}/doubling/v1", 2900, budget={"max_seconds": DOUBLES_AFTER_S + WATCHED_S + 2})
        used = facts(url, "doubling")["last"] / (2 * PER_S * LAST_S)
        line("doubling: used of what is granted, a minute after it doubled", f"{used:.1%}", "90 %", used >= 0.9)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
