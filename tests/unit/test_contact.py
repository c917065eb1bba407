"""What is known of the control plane, after each way in which a call can end."""

from __future__ import annotations

import pytest

from overmind_agent.contact import Contact, ContactState
from overmind_agent.errors import AuthError, ClaimLost, ControlPlaneError, RejectedError, TransientError
from overmind_agent.testing import VirtualClock

AFTER: dict[str, tuple[ControlPlaneError | None, ContactState]] = {
    "well": (None, ContactState(7.0)),
    "not our job": (ClaimLost("x", verb="claim", http_status=409), ContactState(7.0)),
    "refused": (RejectedError("x", verb="claim", http_status=400), ContactState(7.0)),
    "no token": (
        AuthError("poll: 401", verb="poll", http_status=401),
        ContactState(7.0, "poll: 401", is_refused=True),
    ),
    "no answer": (TransientError("poll: timed out", verb="poll"), ContactState(5.0, "poll: timed out")),
}


@pytest.mark.parametrize("how", AFTER)
def test_every_end_of_a_call_says_something_about_the_server(how: str) -> None:
    clock = VirtualClock(now_s=0)
    contact = Contact(clock)
    error, expected = AFTER[how]
    clock.sleep(5)
    contact.ended(None)
    clock.sleep(2)

    contact.ended(error)

    assert expected == contact.state


def test_trouble_is_over_with_the_next_answer() -> None:
    contact = Contact(VirtualClock())
    contact.ended(TransientError("poll: timed out", verb="poll"))

    contact.ended(None)

    assert None is contact.state.trouble
