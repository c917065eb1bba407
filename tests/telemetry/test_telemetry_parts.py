"""Telemetry put together over real parts: whatever of it fails, the rest is there, and the daemon goes on."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from agent_parts import a_claim
from overmind_agent.contact import Contact
from overmind_agent.control.view import AgentView
from overmind_agent.errors import JournalError
from overmind_agent.held_jobs import HeldJobs
from overmind_agent.loops import Pulses
from overmind_agent.telemetry.telemetry import Telemetry
from overmind_agent.telemetry.watched_plane import Call
from overmind_agent.testing import VirtualClock
from overmind_config import logs
from overmind_config.settings import Agent, Settings
from overmind_config.settings import Telemetry as Wanted


class Scene:
    """Telemetry over a journal that cannot be read."""

    def __init__(self, folder: Path, **wanted: Any) -> None:
        self.stream = io.StringIO()
        self.logs = logs.configure(self.stream, style="json", secrets=["hunter22-hunter22"])
        clock = VirtualClock()
        settings = Settings(agent=Agent(state_dir=folder), telemetry=Wanted(**wanted))
        self.contact = Contact(clock)
        self.telemetry = Telemetry(
            lambda: settings,
            pulses=Pulses(),
            held_jobs=HeldJobs(),
            contact=self.contact,
            clock=clock,
            logs=self.logs,
            snapshot=self._snapshot,
        )

    def _snapshot(self) -> AgentView:
        raise JournalError("the journal cannot be read")

    def events(self) -> list[Mapping[str, Any]]:
        """What was logged."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def configured() -> Iterator[None]:
    yield
    logs.configure(None).close()


pytestmark = pytest.mark.usefixtures("configured")


def test_a_journal_that_cannot_be_read_hides_no_other_figure(tmp_path: Path) -> None:
    scene = Scene(tmp_path, listen="127.0.0.1:0")

    with scene.telemetry.open():
        scene.telemetry.on_call(Call("claim", "ok", 0.1, None))
        port = scene.events()[0]["port"]
        shown = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text

    assert 'overmind_agent_control_plane_calls_total{outcome="ok",verb="claim"} 1.0' in shown
    assert "overmind_agent_live 1.0" in shown
    assert "overmind_agent_disk_free_bytes" in shown
    assert "overmind_agent_slots" not in shown


def test_a_port_that_is_taken_is_said_and_leaves_the_rest(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        scene = Scene(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")

        with scene.telemetry.open():
            assert (tmp_path / "health.json").exists()

    assert ["telemetry.not_listening"] == [event["event"] for event in scene.events()]
    assert not (tmp_path / "health.json").exists()


def test_the_figures_are_written_into_their_file(tmp_path: Path) -> None:
    scene = Scene(tmp_path, textfile=tmp_path / "agent.prom")

    with scene.telemetry.open():
        scene.telemetry.write()

    assert "overmind_agent_ready 0.0" in (tmp_path / "agent.prom").read_text()


def test_without_a_reader_nothing_is_counted_and_nothing_is_written(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    with scene.telemetry.open():
        scene.telemetry.on_call(Call("claim", "ok", 0.1, None))
        scene.telemetry.on_calls(a_claim(), {"event": "calls", "model": "local", "kinds": {"ok": 1}})
        scene.telemetry.on_calls(a_claim(), {"event": "call", "span_id": "0" * 16, "seconds": 1})
        scene.telemetry.write()

    assert [] == scene.events()


@pytest.mark.parametrize(
    "told", [{"event": "calls"}, {"event": "calls", "model": {}, "kinds": {"ok": {}}}], ids=str
)
def test_what_a_job_tells_breaks_nothing(tmp_path: Path, told: Mapping[str, Any]) -> None:
    scene = Scene(tmp_path, textfile=tmp_path / "agent.prom")

    with scene.telemetry.open():
        scene.telemetry.on_calls(a_claim(), told)
        scene.telemetry.write()

    assert "model_calls_total{" not in (tmp_path / "agent.prom").read_text()


def test_what_was_masked_in_the_log_is_counted(tmp_path: Path) -> None:
    scene = Scene(tmp_path, textfile=tmp_path / "agent.prom")

    with scene.telemetry.open():
        scene.logs.redactor.text("the key is hunter22-hunter22")
        scene.telemetry.write()

    assert "overmind_agent_secrets_masked_total 1.0" in (tmp_path / "agent.prom").read_text()
