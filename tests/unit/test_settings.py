"""The settings: their limits, and the rules between them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from overmind_config.settings import Settings


def _messages(tree: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(tree)
    return str(caught.value)


def test_nothing_has_to_be_set() -> None:
    """What a command needs beyond the defaults is asked for when the configuration is read."""
    settings = Settings.model_validate({})

    assert 1 == settings.agent.slots
    assert (
        "inference",
        "judge_scoring",
        "uploaded_outputs_setup",
        "model_backtesting",
        "prompt_tuning",
    ) == settings.agent.job_types
    assert {} == settings.models


def test_settings_do_not_change() -> None:
    settings = Settings.model_validate({})

    with pytest.raises(ValidationError, match="frozen"):
        settings.agent.slots = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "url", ["https://overmind.example", "http://localhost:1", "http://127.0.0.1:8700/x", "http://[::1]:8700"]
)
def test_an_address_may_be_https_or_on_this_host(url: str) -> None:
    settings = Settings.model_validate({"control_plane": {"url": url + "/"}})

    assert url == settings.control_plane.url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://overmind.example", r"must start with https:// \(got 'http://overmind.example'\)"),
        ("http://127.0.0.1.example", "must start with https://"),
        ("ftp://overmind.example", "must start with https://"),
        ("overmind.example", "must start with https://"),
        ("https://", "must start with https:// and name a host"),
        ("https://key@overmind.example", "must not hold a user or a password"),
        ("https://overmind.example/?a=b", "must not have a query"),
        ("https://overmind.example:port", "[Pp]ort"),
        ("https://[::1", "Invalid IPv6"),
    ],
)
def test_an_address_that_a_token_must_not_go_to_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings.model_validate({"control_plane": {"url": url}})


def test_plain_http_can_be_allowed() -> None:
    tree = {"control_plane": {"url": "http://overmind.example", "allow_http": True}}

    assert "http://overmind.example" == Settings.model_validate(tree).control_plane.url


@pytest.mark.parametrize(
    ("tree", "numbers"),
    [
        ({"control_plane": {"heartbeat_s": 20.5}}, ["20.5 s", "60 s", "at most 20"]),
        ({"agent": {"grace_s": 16}}, ["16 s + 5 s", "60 s", "at most 15"]),
        ({"agent": {"drain_s": 300}}, ["355 s", "330 s"]),
        ({"agent": {"stop_timeout_s": 10}}, ["295 s", "10 s"]),
        ({"agent": {"no_progress_s": 600, "job_timeout_s": 600}}, ["600 s", "job_timeout_s, 600 s"]),
    ],
)
def test_times_that_do_not_fit_together_are_refused_with_both_numbers(tree: object, numbers: list[str]) -> None:
    message = _messages(tree)

    assert [] == [number for number in numbers if number not in message]


@pytest.mark.parametrize(
    "tree",
    [
        {"control_plane": {"heartbeat_s": 20}},
        {"agent": {"grace_s": 15}},
        {"agent": {"drain_s": 275}},
        {"agent": {"stop_timeout_s": 295}},
        {"agent": {"no_progress_s": 599, "job_timeout_s": 600}},
    ],
)
def test_times_that_just_fit_are_taken(tree: object) -> None:
    assert isinstance(Settings.model_validate(tree), Settings)


@pytest.mark.parametrize(
    "agent",
    [
        {"slots": 0},
        {"slots": True},
        {"slots": 1.5},
        {"slots": "many"},
        {"slots": []},
        {"drain_s": float("nan")},
        {"drain_s": -1},
        {"job_timeout_s": float("inf")},
        {"job_types": [1]},
        {"job_types": ["no spaces"]},
        {"data_roots": 3},
        {"nice": 20},
        {"name": ""},
        {"unknown": 1},
    ],
)
def test_a_value_that_does_not_fit_is_refused(agent: object) -> None:
    assert "agent." in _messages({"agent": agent})


def test_a_key_does_not_travel_over_plain_http() -> None:
    model = {"base_url": "http://models.example/v1", "model": "m", "api_key_file": "/key"}

    assert "must not travel over http://" in _messages({"models": {"far": model}})
    assert Settings.model_validate({"models": {"near": {**model, "base_url": "http://localhost/v1"}}}).models


def test_a_model_has_a_plain_name() -> None:
    model = {"base_url": "https://models.example/v1", "model": "m"}

    assert "pattern" in _messages({"models": {"two words": model}})


@pytest.mark.parametrize(("key", "value"), [("input_price", 1e300), ("input_price", -1), ("timeout_s", 1e10)])
def test_a_figure_of_a_model_that_nobody_means_is_a_mistake(key: str, value: float) -> None:
    """What is made of it would be no number, or longer than any clock runs, and its jobs would fail."""
    model = {"base_url": "https://models.example/v1", "model": "m", "output_price": 1, key: value}

    assert "than or equal to" in _messages({"models": {"dear": model}})


def test_a_model_is_for_chats_unless_it_says_otherwise() -> None:
    model = {"base_url": "https://models.example/v1", "model": "m"}
    settings = Settings.model_validate({"models": {"fast": model, "vectors": {**model, "kind": "embeddings"}}})

    assert {"fast": "chat", "vectors": "embeddings"} == {name: one.kind for name, one in settings.models.items()}
    assert "'chat' or 'embeddings'" in _messages({"models": {"fast": {**model, "kind": "images"}}})


def test_secrets_do_not_show() -> None:
    settings = Settings.model_validate({"control_plane": {"token": "ovr_secret", "proxy": "http://u:pass@p:1"}})

    assert "ovr_secret" not in repr(settings.control_plane.token)
    assert ("ovr_secret", "pass") == settings.secrets()


def test_an_error_does_not_show_the_value() -> None:
    assert "ovr_secret" not in _messages({"control_plane": {"token": {"ovr_secret": 1}}})


def test_importing_the_settings_reads_no_environment() -> None:
    """A child with a broken environment imports them and makes a `Settings`."""
    code = "from overmind_config.settings import Settings; print(Settings.model_validate({}).agent.slots)"
    broken = {"OVERMIND_AGENT_AGENT__SLOTS": "many", "OVERMIND_AGENT_CONFIG": "/nowhere"}

    done = subprocess.run([sys.executable, "-c", code], env=broken, capture_output=True, text=True, timeout=30)

    assert ("1\n", "") == (done.stdout, done.stderr)
