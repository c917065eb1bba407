"""What may be written under `[telemetry]`: nothing is listened to from other hosts unless somebody said so."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from overmind_config.settings import Telemetry


def test_nothing_listens_and_nothing_is_sent_by_default() -> None:
    assert ("", False, None, "") == tuple(
        getattr(Telemetry(), key) for key in ("listen", "allow_remote", "textfile", "otlp_endpoint")
    )


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:9464", ("localhost", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
    ],
)
def test_an_address_of_this_host_is_taken(listen: str, address: tuple[str, int]) -> None:
    assert address == Telemetry(listen=listen).address


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9464", "[::]:9464", "10.0.0.7:9464", "agent.example:9464", "127.0.0.2:1"]
)
def test_an_address_that_others_reach_has_to_be_permitted(listen: str) -> None:
    with pytest.raises(ValidationError, match=r"telemetry\.allow_remote"):
        Telemetry(listen=listen)

    assert listen == Telemetry(listen=listen, allow_remote=True).listen


@pytest.mark.parametrize(
    "listen",
    [
        "9464",
        ":9464",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:70000",
        "u@127.0.0.1:1",
        "127.0.0.1:1/x",
        "::1:9464",
    ],
)
@pytest.mark.parametrize("allow_remote", [False, True])
def test_what_is_no_address_is_refused(listen: str, allow_remote: bool) -> None:
    with pytest.raises(ValidationError):
        Telemetry(listen=listen, allow_remote=allow_remote)


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4318", "ftp://x", "http://", "https://user:password@collector.example"]
)
def test_a_receiver_is_a_web_address_without_a_password(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        Telemetry(otlp_endpoint=endpoint)


def test_a_slash_at_the_end_of_a_receiver_is_none() -> None:
    assert "http://127.0.0.1:4318" == Telemetry(otlp_endpoint="http://127.0.0.1:4318/").otlp_endpoint
