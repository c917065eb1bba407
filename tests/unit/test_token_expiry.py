"""A token that ends soon: said in time, and not with every answer."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from overmind_agent.command_line.doctor import Doctor
from overmind_agent.contact import Contact, ContactState
from overmind_agent.errors import AuthError, ClaimLost, TransientError
from overmind_agent.host.token_expiry import TokenExpiry
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.refusals import Verb, read_moment
from overmind_agent.testing import VirtualClock
from overmind_config.settings import Agent, ControlPlane, Settings
from server import ControlPlaneProcess, run_command, start_control_plane

END = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Wall:
    """The time of day, as it is told."""

    now = END

    def __call__(self) -> float:
        return self.now.timestamp()


def test_the_end_is_said_seven_days_before_and_with_each_day_less() -> None:
    wall, kept = Wall(), list[datetime | None]()
    expiry = TokenExpiry(kept.append, structlog.get_logger(), wall_s=wall)

    with capture_logs() as lines:
        for days in (30, 7.1, 7, 6.9, 6.5, 6, 5.9, 0.5, 0.4, -1, -1.5):
            wall.now = END - days * DAY
            expiry.told(END)

    assert [7, 6, 5, 0, 0] == [line["days_left"] for line in lines]
    assert {("control_plane.token_expires", END.isoformat())} == {
        (line["event"], line["expires_at"]) for line in lines
    }
    assert [END] * 11 == kept


def test_a_new_token_is_another_end_and_one_without_is_none() -> None:
    wall, kept = Wall(), list[datetime | None]()
    expiry = TokenExpiry(kept.append, structlog.get_logger(), wall_s=wall)

    with capture_logs() as lines:
        for at in (END + DAY, END + 300 * DAY, None, END + DAY, END + 1.5 * DAY):
            expiry.told(at)

    assert [1, 1] == [line["days_left"] for line in lines]
    assert None in kept


def test_what_is_known_of_the_end_outlives_the_calls_between() -> None:
    contact = Contact(VirtualClock())
    contact.token_expires(END)

    contact.ended(None)
    contact.ended(TransientError("down", verb="v"))
    contact.ended(ClaimLost("lost", verb="v"))
    contact.ended(AuthError("no", verb="v", http_status=401))

    assert ContactState(1000.0, "no", is_refused=True, token_expires_at=END) == contact.state


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (END.isoformat(), END),
        ("2026-12-01T00:00:00Z", END),
        ("2026-12-01T02:00:00+02:00", END),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-12-01T00:00:00", None),
        ("", None),
        ("never", None),
        ("1e999", None),
        ("9" * 5000, None),
    ],
)
def test_a_moment_is_an_aware_time_or_none(value: str, moment: datetime | None) -> None:
    assert moment == read_moment(value)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> ControlPlaneProcess:
    """A control plane with one project."""
    with start_control_plane(tmp_path_factory.mktemp("plane")) as running:
        made = run_command("project", "create", "expiring", "--data", str(running.data))
        assert 0 == made.returncode, made.stderr
        yield running


def token(plane: ControlPlaneProcess, *more: str) -> str:
    """A new one for agents."""
    made = run_command(
        "token", "create", "--data", str(plane.data), "--project", "expiring", "--role", "agent", *more
    )
    return made.stdout.strip()


@pytest.mark.parametrize(
    ("days", "grade", "said"),
    [(None, "ok", "accepted"), ("30", "ok", "accepted; it expires at "), ("3", "warning", "Z, in 3.0 days")],
)
def test_the_server_says_it_and_the_check_finds_it(
    plane: ControlPlaneProcess, tmp_path: Path, days: str | None, grade: str, said: str
) -> None:
    secret = token(plane, *(["--expires-days", days] if days else []))
    settings = Settings(control_plane=ControlPlane(url=plane.url), agent=Agent(state_dir=tmp_path / "state"))
    told: list[datetime | None] = []

    with closing(HttpCalls(plane.url, lambda: secret, on_expiry=told.append)) as calls:
        calls.call(Verb("look", 10), "GET", "/api/v2/capabilities")
        found = {finding.code: finding for finding in Doctor(settings, calls).findings()}

    left = (told[0] - datetime.now(UTC)) / DAY if told[0] else None
    assert (days and float(days)) == pytest.approx(left, abs=0.01)
    assert (grade, True) == (found["token"].grade, said in found["token"].message), found["token"]
