"""Which of our extensions the server has."""

from __future__ import annotations

from typing import Final

from overmind_agent import wire
from overmind_agent.errors import RejectedError
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.refusals import Verb

CAPABILITIES: Final = Verb("capabilities", 10)


class Extensions:
    """Asked for once, when the first of them matters. For one thread."""

    def __init__(self, calls: HttpCalls) -> None:
        self._calls = calls
        self._known: frozenset[str] | None = None

    @property
    def were_asked_for(self) -> bool:
        """Whether this server has ever answered."""
        return self._known is not None

    def has(self, extension: str) -> bool:
        """Whether the server has it."""
        if self._known is None:
            try:
                answer = self._calls.call(CAPABILITIES, "GET", "/api/v2/capabilities")
                self._known = frozenset(wire.parse(wire.Capabilities, answer.body).extensions)
            except RejectedError as error:
                if error.http_status not in (404, 405):
                    raise
                self._known = frozenset()
        return extension in self._known

    def lost(self, extension: str) -> None:
        """An older server has taken the place of the one that we knew."""
        self._known = (self._known or frozenset()) - {extension}
