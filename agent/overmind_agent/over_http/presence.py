"""This agent as its server knows it: registered, alive, gone."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from overmind_agent import __version__, wire
from overmind_agent.errors import RejectedError
from overmind_agent.jobs import Held, Orders
from overmind_agent.over_http import answers
from overmind_agent.over_http.calls import HttpCalls, segment
from overmind_agent.over_http.extensions import Extensions
from overmind_agent.over_http.refusals import Verb
from overmind_agent.ports import Offer

MODULE: Final = {"module_name": "@overmind:executors", "module_version": "1.0.0"}
JOB_TYPE_CAPABILITY: Final = "job_type:"
# Who says some of these is offered nothing else: what is left out would never come.
NARROWING: Final = ("model:", "project:")
MOST_CAPABILITIES: Final = 64  # what a registration may say
NOT_ACCEPTING_CHARS: Final = 255
STEP_NAME_CHARS: Final = 255

REGISTER: Final = Verb("register", 15)
HEARTBEAT: Final = Verb("heartbeat", 10)
LEAST_BEAT_S: Final = 2.0
LEAVE: Final = Verb("leave", 2)


class Presence:
    """
    What the agent says of itself, over one connection.

    Args:
        instance: names this start of the agent, so that a copy of its state folder is noticed; None to say none.

    Attributes:
        offer: what this host has for jobs; `register` tells the server.
    """

    def __init__(
        self, calls: HttpCalls, extensions: Extensions, offer: Offer, *, display_name: str, instance: str | None
    ) -> None:
        self._calls = calls
        self._has = extensions.has
        self._display_name = display_name
        self._instance = instance
        self.offer = offer

    def which_start(self) -> dict[str, str]:
        """The name of this start, for a server that asks."""
        return {"instance": self._instance} if self._instance and self._has("instance") else {}

    def register(self, known_id: str | None) -> str:
        """See ControlPlane."""
        about: dict[str, Any] = {"agent_version": __version__, "host_os": _host_os()}
        if self._has("lease"):
            about["capabilities"] = self._capabilities()
        about |= self.which_start()
        agent_id = known_id
        if agent_id is not None:
            try:
                self._calls.call(REGISTER, "PUT", f"/api/v2/agents/{segment(agent_id)}", body=about)
            except RejectedError as error:
                if error.http_status != 404:
                    raise
                if self._has("agent_id"):
                    about["agent_id"] = agent_id
                agent_id = None
        if agent_id is None:
            answer = self._calls.call(REGISTER, "POST", "/api/v2/agents", body=about)
            agent_id = wire.parse(wire.Agent, answer.body).id
        here = f"/api/v2/agents/{segment(agent_id)}"
        self._calls.call(REGISTER, "PUT", f"{here}/modules", body=self._modules())
        self._calls.call(REGISTER, "PUT", f"{here}/display_name", body={"display_name": self._display_name})
        self._calls.call(REGISTER, "PUT", f"{here}/status", body={"name": "Idle"})
        return agent_id

    def _capabilities(self) -> list[str]:
        types = [name for name in self.offer.job_types if name not in self.offer.functions]
        said = ["lease", "fence", *(JOB_TYPE_CAPABILITY + name for name in types), *self.offer.capabilities]
        if len(said) > MOST_CAPABILITIES:
            said = [word for word in said if not word.startswith(NARROWING)]
        return said[:MOST_CAPABILITIES]

    def _modules(self) -> list[dict[str, str]]:
        """What this host can run: each function is a module by its own name."""
        functions = self.offer.functions.items()
        return [MODULE, *({"module_name": name, "module_version": version} for name, version in functions)]

    def beat(
        self, agent_id: str, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None
    ) -> Orders:
        """See ControlPlane."""
        body = self._beat(held, draining=draining, wait_s=wait_s, not_accepting=not_accepting)
        path = f"/api/v2/agents/{segment(agent_id)}/heartbeat"
        verb = replace(HEARTBEAT, total_s=beat_s(wait_s))
        with self._calls.giving_way():
            answer = self._calls.call(verb, "POST", path, body=body, extra_s=wait_s)
        return answers.orders(wire.parse(wire.HeartbeatAnswer, answer.body))

    def leave(self, agent_id: str) -> None:
        """See ControlPlane. A plain server has the status alone."""
        here = f"/api/v2/agents/{segment(agent_id)}"
        if self._has("heartbeat"):
            body = self._beat([], draining=True, wait_s=0, not_accepting=None)
            self._calls.call(LEAVE, "POST", f"{here}/heartbeat", body=body)
        else:
            self._calls.call(LEAVE, "PUT", f"{here}/status", body={"name": "Paused"})

    def _beat(
        self, held: Sequence[Held], *, draining: bool, wait_s: float, not_accepting: str | None
    ) -> dict[str, Any]:
        why_not = not_accepting if self._has("not_accepting") else None
        return {
            "slots": self.offer.slots,
            "draining": draining,
            "wait_s": wait_s,
            "jobs": [_held_line(line, has_pace=self._has("pace")) | self._more(line) for line in held],
            **self.which_start(),
            **({"not_accepting": why_not[:NOT_ACCEPTING_CHARS]} if why_not else {}),
        }

    def _more(self, line: Held) -> dict[str, Any]:
        """What not every server has a word for."""
        more: dict[str, Any] = {"iterations": list(line.iterations), "ends": line.ends}
        return {name: value for name, value in more.items() if value and self._has(name)}


def _held_line(line: Held, *, has_pace: bool) -> dict[str, Any]:
    told = line.progress if has_pace or line.progress is None else replace(line.progress, usd=None, eta_s=None)
    progress = told and {**told.as_json(), "step_name": told.step_name[:STEP_NAME_CHARS]}
    return {"job_id": line.job_id, "attempt": line.attempt, "progress": progress}


def beat_s(wait_s: float) -> float:
    """
    Seconds that a heartbeat may take on top of the *wait_s* for which the server may hold it.

    One that nobody answers must not cost the next one its turn: no more than 0.8 of the time between two.
    """
    return min(HEARTBEAT.total_s, max(LEAST_BEAT_S, 0.8 * wait_s)) if wait_s else HEARTBEAT.total_s


def _host_os() -> str:
    try:
        found = platform.freedesktop_os_release()
        return f"{found.get('NAME', 'Linux')} {found.get('VERSION_ID', '')}".strip()
    except OSError:
        return platform.system()
