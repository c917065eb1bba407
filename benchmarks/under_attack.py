"""
Whether an honest agent is served while others misbehave.

    .venv/bin/python benchmarks/under_attack.py [--seconds 30] [--slow 500] [--flood 1000]

A real control plane with its ordinary settings. Five hundred connections begin a request and send a letter of
its head every two seconds, and begin anew when they are cut off. A flood of 1,000 calls a second, over 20
connections, with a token of its own that may make that many. Both come from a process of their own. Meanwhile
an honest agent walks jobs from Claimed to Completed, one update after the other, and another one sends a
heartbeat a second: p50 and p99 of the updates, and the part of the heartbeats that was answered within a
second, without the attack and under it. Ends with 1 when the p99 under attack is 500 ms or more, or fewer than
99 % of the heartbeats were answered in time.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "controlplane")]

from plane_calls import Project  # noqa: E402

from server import start_control_plane  # noqa: E402

WALK: Final = ("Claimed", "Validating", "Running", "Uploading", "Completed")
LANES: Final = 20
DRIP_S: Final = 2.0
MOST_P99_S: Final = 0.5
LEAST_BEATS: Final = 0.99


async def _slow(host: str, port: int) -> None:
    """One connection whose head never ends, for ever."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nX: ")
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), DRIP_S)
            writer.close()
        await asyncio.sleep(0.1)


async def _flood(host: str, port: int, token: str, rate_per_s: float, answered: Any) -> None:
    """One lane of the flood: calls one after the other, each due at its moment."""
    call = (
        f"GET /api/v2/agents/none HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    due_s = time.monotonic()
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            reader, writer = await asyncio.open_connection(host, port)
            while True:
                due_s += 1 / rate_per_s
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                writer.write(call)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                answered.value += 1


def attack(url: str, token: str, slow: int, flood: float, answered: Any) -> None:
    """In a process of its own, until it is killed."""
    host, port = str(urlsplit(url).hostname), int(urlsplit(url).port or 0)

    async def both() -> None:
        lanes = [_flood(host, port, token, flood / LANES, answered) for _ in range(LANES)] if flood else []
        await asyncio.gather(*(_slow(host, port) for _ in range(slow)), *lanes)

    asyncio.run(both())


def honest(project: Project, seconds: float) -> tuple[list[float], float]:
    """Seconds of each update, and the part of the heartbeats that was answered within a second of its time."""
    beats_s: list[float] = []
    over = threading.Event()
    url, tokens = project.url, project.tokens

    def beat() -> None:
        own = Project(url, tokens)
        agent_id, due_s = own.agent.register(), time.monotonic()
        # Each is due a second after the one before it was due, and its time counts from then.
        while not over.wait(max(0.0, (due_s := due_s + 1.0) - time.monotonic())):
            own.agent.read("POST", f"/api/v2/agents/{agent_id}/heartbeat", {"slots": 1})
            beats_s.append(time.monotonic() - due_s)
        own.close()

    beating = threading.Thread(target=beat)
    beating.start()
    agent_id, took_s, ends_s = project.agent.register(), [], time.monotonic() + seconds
    while time.monotonic() < ends_s:
        job_id = project.submit.make_job()["id"]
        for status in WALK:
            began_s = time.monotonic()
            assert project.agent.say(job_id, status, agent_id).ok
            took_s.append(time.monotonic() - began_s)
    over.set()
    beating.join()
    return took_s, sum(beat_s <= 1.0 for beat_s in beats_s) / len(beats_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--flood", type=float, default=1000.0)
    told = parser.parse_args()
    is_well = True
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, start_control_plane(Path(folder)) as plane:
        project = Project(plane.url, plane.tokens)
        for what, slow, flood in (("nobody else", 0, 0.0), ("under attack", told.slow, told.flood)):
            answered = spawn.Value("l", 0, lock=False)
            them = spawn.Process(
                target=attack, args=(plane.url, plane.new_project().agent, slow, flood, answered), daemon=True
            )
            if slow or flood:
                them.start()
                time.sleep(5)
            calls_before, began_s = answered.value, time.monotonic()
            took_s, beats = honest(project, told.seconds)
            rate = (answered.value - calls_before) / (time.monotonic() - began_s)
            if them.pid is not None:
                them.kill()
                them.join()
            p50_s, p99_s = statistics.median(took_s), statistics.quantiles(took_s, n=100)[98]
            print(
                f"| {what} | {len(took_s)} updates | p50 {p50_s * 1000:.0f} ms | p99 {p99_s * 1000:.0f} ms "
                f"| heartbeats {beats:.1%} | {rate:.0f} calls a second of the flood were answered |"
            )
            is_well = is_well and p99_s < MOST_P99_S and beats >= LEAST_BEATS
        project.close()
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
