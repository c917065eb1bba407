"""What must be so between this host and its control plane."""

from __future__ import annotations

import http
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from overmind_agent import wire
from overmind_agent.command_line import surroundings
from overmind_agent.command_line.findings import Check, Failed
from overmind_agent.errors import AuthError, RejectedError
from overmind_agent.host.token_expiry import HINT, WARN_DAYS, days_left
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.refusals import Verb
from overmind_config.settings import Settings

LOOK: Final = Verb("check", 5)
MOST_SKEW_S: Final = 60.0
_HOW_TO_MEND: Final = (
    "put an agent's token into $OVERMIND_API_KEY or, where that is unset, control_plane.token_file"
)

NOBODY: Final = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Questions:
    """
    What the server of an adapter is asked.

    Attributes:
        reach: a path that answers quickly, whatever it says.
        proof: method, path and body of a call that only an agent's token gets past; that it then finds nothing is
            an answer, too.
        poll: the path of the question for a job, in a way that takes and keeps none.
    """

    reach: str
    proof: tuple[str, str, Any]
    poll: str


QUESTIONS: Final = {
    "overmind": Questions(
        "/api/v2/capabilities",
        ("PUT", f"/api/v2/agents/{NOBODY}/status", {"name": "Idle"}),
        f"/api/v2/agents/{NOBODY}/job?wait_s=0",
    ),
    "overmind-lab": Questions("/health", ("GET", "/api/auth/me/", None), "/api/jobs/?status=pending&page_size=1"),
}


class PlaneChecks:
    """
    Of the control plane of *settings*, over *calls*.

    Attributes:
        is_answered: whether it has answered, whatever it said; `connection` asks.
    """

    def __init__(self, settings: Settings, calls: HttpCalls) -> None:
        self._settings = settings
        self._calls = calls
        self.is_answered = False
        self._date: datetime | None = None
        self._expires_at: datetime | None = None

    def checks(self) -> Iterator[tuple[str, Check]]:
        """Each by its code."""
        plane = self._settings.control_plane
        yield "address", lambda: surroundings.address(plane)
        yield "proxy", lambda: surroundings.proxy(plane)
        yield "tls", lambda: surroundings.tls(plane)
        yield "connection", self._connection
        yield "extensions", self._extensions
        yield "token", self._token
        yield "poll", self._poll
        yield "clock", self._clock

    def _connection(self) -> str:
        began = datetime.now(UTC)
        with suppress(RejectedError):  # whatever it answers, it answers
            answer = self._calls.call(LOOK, "GET", self._questions.reach)
            self._date, self._expires_at = answer.date, answer.token_expires_at
        took_ms = (datetime.now(UTC) - began).total_seconds() * 1000
        self.is_answered = True
        return f"{self._settings.control_plane.url} answers in {took_ms:.0f} ms"

    def _extensions(self) -> str:
        if self._settings.control_plane.adapter == "overmind-lab":
            return "none are needed by this adapter, which has no leases: see docs/protocol.md"
        try:
            answer = self._calls.call(LOOK, "GET", "/api/v2/capabilities")
        except AuthError as error:
            raise Failed("not told without a valid token", "see the check of the token", grade="warning") from error
        except RejectedError as error:
            raise Failed(
                "none: jobs are polled for, without leases", "fine for a plain control plane", grade="warning"
            ) from error
        told = wire.parse(wire.Capabilities, answer.body).extensions
        missing = [name for name in wire.EXTENSIONS if name not in told]
        return f"all that are known here but {', '.join(missing)}" if missing else "all that are known here"

    @property
    def _questions(self) -> Questions:
        return QUESTIONS[self._settings.control_plane.adapter]

    def _token(self) -> str:
        method, path, body = self._questions.proof
        try:
            self._expires_at = self._calls.call(LOOK, method, path, body=body).token_expires_at
        except AuthError as error:
            raise Failed(f"not accepted ({error})", _HOW_TO_MEND) from error
        except RejectedError:
            pass  # it got as far as the thing that is not there
        return self._lasts()

    def _lasts(self) -> str:
        """That the token is accepted, and until when."""
        if self._expires_at is None:
            return "accepted"
        left = days_left(self._expires_at, datetime.now(UTC).timestamp())
        said = f"accepted; it expires at {self._expires_at:%Y-%m-%d %H:%M:%S}Z"
        if left <= WARN_DAYS:
            raise Failed(f"{said}, in {left:.1f} days", HINT, grade="warning")
        return said

    def _poll(self) -> str:
        """As an agent that nobody knows: so nothing is offered to it, and no other agent waits for its sake."""
        began = datetime.now(UTC)
        try:
            self._calls.call(LOOK, "GET", self._questions.poll)
        except AuthError as error:
            raise Failed(f"not allowed ({error})", _HOW_TO_MEND) from error
        except RejectedError as error:
            if error.http_status != http.HTTPStatus.NOT_FOUND:
                raise
        took_ms = (datetime.now(UTC) - began).total_seconds() * 1000
        return f"a question for a job is answered in {took_ms:.0f} ms; none was taken"

    def _clock(self) -> str:
        if self._date is None:
            raise Failed("the server did not say what time it is", "see the check of the token", grade="warning")
        skew_s = abs((datetime.now(UTC) - self._date).total_seconds())
        if skew_s > MOST_SKEW_S:
            raise Failed(f"{skew_s:.0f} s from the server's", "set the clock; leases do not depend on it, TLS does")
        return f"within {skew_s:.0f} s of the server's"
