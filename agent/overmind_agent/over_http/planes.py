"""Makes the daemon's control planes: one for each thread, all with the same settings."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from overmind_agent.errors import ControlPlaneError
from overmind_agent.journal.journal import SqliteJournal
from overmind_agent.lab.client import LabControlPlane, Shared
from overmind_agent.lab.host_results import HostResults
from overmind_agent.loops import LoopClock, Pulse
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.client import HttpControlPlane
from overmind_agent.over_http.network import Network, is_this_host
from overmind_agent.over_http.pause import Pause
from overmind_agent.ports import Clock, ControlPlane, Offer
from overmind_agent.telemetry.traces import Traces
from overmind_agent.telemetry.watched_plane import Call, watched
from overmind_config.settings import ControlPlane as ControlPlaneSettings
from overmind_config.settings import Settings


class Planes:
    """
    What all control planes of a daemon share.

    Args:
        offer: what the control plane is told of this host; `now_offers` replaces it.
        token: the control plane's token; asked for at every call, so that a new one is used at once.
        on_date: told the server's time of day, as its answers say it.
        on_expiry: told when the token ends, as its answers say it; None for never. From any thread.
        on_end: told how each call ended, None for well. From any thread.
        on_call: told of each call, in the thread that made it.
        traces: to which each call belongs.

    Attributes:
        results: the result files that stay on this host, with an adapter whose server takes none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        offer: Offer,
        token: Callable[[], str],
        journal: SqliteJournal,
        clock: Clock,
        on_date: Callable[[datetime], object],
        on_expiry: Callable[[datetime | None], object],
        on_end: Callable[[ControlPlaneError | None], object],
        on_call: Callable[[Call], object],
        traces: Traces,
    ) -> None:
        self._settings = settings
        self._offer = offer
        self._token = token
        self._journal = journal
        self._clock = clock
        self._on_date = on_date
        self._on_expiry = on_expiry
        self._on_end = on_end
        self._on_call = on_call
        self._traces = traces
        self._pause = Pause(clock)
        self._instance = str(uuid.uuid4())
        self._made: list[HttpControlPlane | LabControlPlane] = []
        self.results = HostResults(settings.agent.state_dir / "results", settings.agent.name)
        self._lab = Shared(self.results)

    def make(self, pulse: Pulse | None = None, *, pause: Pause | None = None) -> ControlPlane:
        """
        One for one thread.

        Args:
            pulse: of the loop that it is for; None where nobody looks after the thread.
            pause: its own budget of patience; None for the one that all others share.
        """
        settings = self._settings.control_plane
        calls = HttpCalls(
            settings.url,
            self._token,
            network=network_of(settings),
            on_wait=pulse.turn if pulse else lambda _seconds: None,
            on_date=self._on_date,
            on_expiry=self._on_expiry,
            on_end=self._on_end,
            pause=pause or self._pause,
        )
        clock = LoopClock(self._clock, pulse) if pulse else self._clock
        plane = _ADAPTERS[settings.adapter](self, calls, clock)
        self._made.append(plane)
        return watched(plane, self._on_call, self._traces)

    def now_offers(self, offer: Offer) -> None:
        """From now on this is what is said of this host, by those that are made and those that will be."""
        self._offer = offer
        for plane in self._made:
            plane.now_offers(offer)

    def stop_waiting(self) -> None:
        """End what may be held open."""
        for plane in self._made:
            plane.stop_waiting()

    def overmind(self, calls: HttpCalls, clock: Clock) -> HttpControlPlane:
        """The agent-pull dialect."""
        return HttpControlPlane(
            calls,
            job_types=self._offer.job_types,
            display_name=self._settings.agent.name,
            slots=self._offer.slots,
            agent_id=self._journal.agent_id,
            clock=clock,
            functions=self._offer.functions,
            instance=self._instance,
            capabilities=self._offer.capabilities,
            ledger=self._journal,
        )

    def overmind_lab(self, calls: HttpCalls, clock: Clock) -> LabControlPlane:
        """Overmind Lab's jobs REST."""
        return LabControlPlane(
            calls,
            job_types=self._offer.job_types,
            agent_id=self._journal.agent_id,
            shared=self._lab,
            clock=clock,
        )


def network_of(settings: ControlPlaneSettings) -> Network:
    """The way that *settings* describe."""
    return Network(
        ca_file=settings.ca_file,
        client_cert_file=settings.client_cert_file,
        client_key_file=settings.client_key_file,
        proxy=settings.proxy,
        no_proxy=settings.no_proxy,
    )


def network_of_model(settings: Settings, name: str) -> Network:
    """The way to a chat model: through the host's proxy, but for what is reached without, and for this host."""
    model = settings.models[name]
    here = settings.control_plane
    proxy = None if is_this_host(model.base_url) else here.proxy
    return Network(ca_file=model.ca_file, proxy=proxy, no_proxy=here.no_proxy)


_ADAPTERS: Final[Mapping[str, Callable[[Planes, HttpCalls, Clock], HttpControlPlane | LabControlPlane]]] = {
    "overmind": Planes.overmind,
    "overmind-lab": Planes.overmind_lab,
}
"""What `control_plane.adapter` may be."""
