"""A control plane in memory between whose calls something else happens: what other threads of an agent would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from overmind_agent.ports import Clock
from overmind_agent.testing import FakeServer


class Interleaved(FakeServer):
    """
    Attributes:
        acts: what happens at the moment of that number; each call has one before and one after it took effect. An
            act that calls the control plane is not interrupted itself.
        begun: the calls that were begun, acts' own included, with the moment at which that was.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.acts: Mapping[int, Callable[[], object]] = {}
        self.begun: list[tuple[int, str]] = []
        self.moment = 0
        self._is_acting = False

    @contextmanager
    def call(self, verb: str) -> Iterator[None]:
        """See FakeServer."""
        self._pass_moment()
        self.begun.append((self.moment, verb))
        with super().call(verb):
            yield
        self._pass_moment()

    def _pass_moment(self) -> None:
        if self._is_acting:
            return
        self.moment += 1
        if (act := self.acts.get(self.moment)) is not None:
            self._is_acting = True
            try:
                act()
            finally:
                self._is_acting = False
