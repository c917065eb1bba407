"""
Each loop of a real daemon is frozen, wherever it is outside of a call: live is 503 within ten seconds and names it.

The threads stand in a lock that nobody opens, as `tests/kit/freezing` has it; the report is the listener's, and the
measure is the time between the two.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import pytest
import requests
from host import Host, wait_until

from server import start_control_plane

FREEZING: Final = Path(__file__).parents[1] / "kit" / "freezing"
# By loop, a function that each of its rounds calls, outside of any call of the control plane.
LOOPS: Final = {
    "worker-1": "sleep",
    "heartbeat": "wait_for_any",
    "delivery": "wait_for_post",
    "logs": "turn",
}
MOST_S: Final = 10.0
WAIT_S: Final = 60


class Daemon:
    """One that works, is asked how it is, and whose loops can be frozen."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder

    def freeze(self, loops: Collection[str]) -> dict[str, float]:
        """Freeze *loops*; when each of them stood."""
        paths = {loop: self._folder / f"{loop}={LOOPS[loop]}" for loop in loops}
        for path in paths.values():
            path.touch()
        wait_until(lambda: all(path.read_text().endswith("\n") for path in paths.values()))
        return {loop: float(path.read_text()) for loop, path in paths.items()}

    def let_go(self) -> None:
        """Of all."""
        for path in self._folder.iterdir():
            path.unlink()
        wait_until(lambda: not self.late())

    def late(self) -> set[str]:
        """The loops that are not found to live; the answer's status agrees."""
        answer = requests.get(f"{self._url}/livez", timeout=WAIT_S)
        reasons = answer.json()["reasons"]
        late = {reason["message"].partition(":")[0] for reason in reasons if reason["code"] == "loop_late"}
        assert answer.status_code == (503 if late else 200)
        return late

    def noticed_at_s(self, loops: Collection[str]) -> dict[str, float]:
        """When each of them was first named, once all were."""
        seen: dict[str, float] = {}

        def are_all_named() -> bool:
            seen.update(dict.fromkeys(self.late() - seen.keys(), time.monotonic()))
            return seen.keys() >= set(loops)

        wait_until(are_all_named)
        return seen


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("frozen")
    freeze = folder / "freeze"
    freeze.mkdir()
    with start_control_plane(folder) as plane:
        host = Host(folder / "host", plane.url, plane.agent_token, "http://127.0.0.1:9")
        try:
            agent = host.start(
                OVERMIND_AGENT_TELEMETRY__LISTEN="127.0.0.1:0",
                OVERMIND_AGENT_CONTROL_PLANE__POLL_WAIT_S="1",
                PYTHONPATH=str(FREEZING),
                FREEZE=str(freeze),
            )
            port = agent.wait_for("telemetry.listening")["port"]
            agent.wait_for("agent.started")
            yield Daemon(f"http://127.0.0.1:{port}", freeze)
        finally:
            host.stop_all()


def test_loops_that_are_frozen_are_named_within_ten_seconds_and_are_well_again(
    daemon: Daemon, *, is_whole: bool
) -> None:
    """All at once, since each has a thread of its own; in turn where there is time."""
    rounds = [[loop] for loop in LOOPS] if is_whole else [list(LOOPS)]
    noticed_s: dict[str, float] = {}
    for loops in rounds:
        frozen_at_s = daemon.freeze(loops)
        noticed_at_s = daemon.noticed_at_s(loops)
        noticed_s |= {loop: noticed_at_s[loop] - frozen_at_s[loop] for loop in loops}
        daemon.let_go()

    assert dict.fromkeys(LOOPS, True) == {loop: took_s <= MOST_S for loop, took_s in noticed_s.items()}, noticed_s
