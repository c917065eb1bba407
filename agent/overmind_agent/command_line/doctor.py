"""
What must be so for this host to do its work, as a list of questions.

Each check answers with what it found; when that is not good enough it says what to do. None of them makes
anything, and none takes longer than a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from overmind_agent.command_line.findings import Check, Failed, Finding
from overmind_agent.command_line.host_checks import HostChecks
from overmind_agent.command_line.model_checks import ModelChecks
from overmind_agent.command_line.plane_checks import PlaneChecks
from overmind_agent.errors import OvermindAgentError
from overmind_agent.over_http.calls import HttpCalls
from overmind_config.settings import Settings

_NEEDS_AN_ANSWER: Final = frozenset({"extensions", "token", "poll", "clock"})


class Doctor:
    """Examines this host for *settings*; `calls` go to the control plane."""

    def __init__(self, settings: Settings, calls: HttpCalls) -> None:
        self._host = HostChecks(settings)
        self._plane = PlaneChecks(settings, calls)
        self._models = ModelChecks(settings)

    def findings(self) -> Iterator[Finding]:
        """One finding for each check, in the order in which a person would look."""
        for code, check in self._checks():
            if code in _NEEDS_AN_ANSWER and not self._plane.is_answered:
                said = "not asked, since the control plane does not answer"
                yield Finding(code, "warning", said, "see the check of the connection")
                continue
            try:
                yield Finding(code, "ok", check())
            except Failed as bad:
                yield Finding(code, bad.grade, str(bad), bad.hint)
            except OvermindAgentError as error:
                yield Finding(code, "failed", str(error), "check control_plane.url, the network and the proxy")

    def _checks(self) -> Iterator[tuple[str, Check]]:
        yield from self._host.checks()
        yield from self._plane.checks()
        yield from self._models.checks()
        yield "service_manager", _service_manager


def _service_manager() -> str:
    return "systemd" if Path("/run/systemd/system").is_dir() else "none here"
