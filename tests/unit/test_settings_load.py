"""Reading the configuration: which place wins, and what is said of what is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from overmind_config.load import MASKED, load
from overmind_config.problems import SettingsError

ENOUGH = {"OVERMIND_API_URL": "https://overmind.example", "OVERMIND_API_KEY": "ovr_test"}


def _file(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _secret(path: Path, text: str = "ovr_file\n") -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def _problems(
    flags: Mapping[str, Any] | None = None, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags, config=config, environ=ENOUGH if environ is None else environ)
    return [str(problem) for problem in caught.value.problems]


def _token(loaded: Any) -> str:
    token = loaded.settings.control_plane.token
    return token.get_secret_value() if token else ""


def test_the_stronger_place_wins(tmp_path: Path) -> None:
    """All five places name a value; taking the strongest away lets the next one through."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    _secret(credentials / "token", "ovr_credential")
    config = _file(tmp_path, f"[agent]\nslots = 4\nnice = 4\n[control_plane]\ntoken_file = '{tmp_path / 'no'}'\n")
    environ = ENOUGH | {
        "OVERMIND_AGENT_AGENT__SLOTS": "3",
        "OVERMIND_AGENT_CONFIG": str(config),
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    keyless = {name: value for name, value in environ.items() if name != "OVERMIND_API_KEY"}

    assert 2 == load({"agent.slots": 2}, environ=environ).settings.agent.slots
    assert 3 == load({"agent.slots": None}, environ=environ).settings.agent.slots
    assert 4 == load(environ=environ).settings.agent.nice
    assert 10 == load(environ=environ).settings.agent.grace_s
    assert "ovr_test" == _token(load(environ=environ))
    assert "ovr_credential" == _token(load(environ=keyless))


def test_our_own_name_for_a_variable_beats_an_established_one() -> None:
    environ = ENOUGH | {"OVERMIND_AGENT_CONTROL_PLANE__URL": "https://own.example", "OVERMIND_API_TOKEN": "ovr_b"}

    loaded = load(environ=environ)

    assert "https://own.example" == loaded.settings.control_plane.url
    assert "ovr_test" == _token(loaded)


def test_an_empty_variable_is_not_set() -> None:
    loaded = load(environ=ENOUGH | {"OVERMIND_API_KEY": "", "OVERMIND_API_TOKEN": "ovr_b"})

    assert "ovr_b" == _token(loaded)


def test_lists_and_models_can_be_set_in_the_environment() -> None:
    environ = ENOUGH | {
        "OVERMIND_AGENT_AGENT__JOB_TYPES": "inference, judge_scoring",
        "OVERMIND_AGENT_HOOKS__AFTER": "/usr/bin/tidy, --quiet",
        "OVERMIND_AGENT_MODELS__LOCAL__BASE_URL": "http://127.0.0.1:8000/v1/",
        "OVERMIND_AGENT_MODELS__LOCAL__MODEL": "smollm2",
    }

    settings = load(environ=environ).settings

    assert ("inference", "judge_scoring") == settings.agent.job_types
    assert ("/usr/bin/tidy", "--quiet") == settings.hooks.after
    assert "http://127.0.0.1:8000/v1" == settings.models["local"].base_url


def test_a_key_file_is_read_for_its_model(tmp_path: Path) -> None:
    _secret(tmp_path / "key", "sk-one\r\n")
    config = _file(tmp_path, '[models.a]\nbase_url = "https://m.example/v1"\nmodel = "m"\napi_key_file = "key"\n')

    model = load(config=config, environ=ENOUGH).settings.models["a"]

    assert model.api_key is not None
    assert "sk-one" == model.api_key.get_secret_value()
    assert tmp_path / "key" == model.api_key_file


def test_what_systemd_hands_over_is_not_measured_by_its_mode(tmp_path: Path) -> None:
    """Newer versions use an access list, which shows as rights of the group; elsewhere that is open to others."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    key = credentials / "fast.key"
    _secret(key, "sk-one")
    key.chmod(0o440)
    config = _file(
        tmp_path, f'[models.a]\nbase_url = "https://m.example/v1"\nmodel = "m"\napi_key_file = "{key}"\n'
    )

    model = load(config=config, environ=ENOUGH | {"CREDENTIALS_DIRECTORY": str(credentials)}).settings.models["a"]

    assert model.api_key is not None
    assert "sk-one" == model.api_key.get_secret_value()
    with pytest.raises(SettingsError, match="open to other users"):
        load(config=config, environ=ENOUGH)


def test_a_relative_path_in_the_file_counts_from_the_file(tmp_path: Path) -> None:
    config = _file(tmp_path, '[agent]\nstate_dir = "state"\ndata_roots = ["a", "/b"]\n')

    agent = load(config=config, environ=ENOUGH).settings.agent

    assert tmp_path / "state" == agent.state_dir
    assert (tmp_path / "a", Path("/b")) == agent.data_roots


def test_systemd_names_the_state_folder() -> None:
    loaded = load(environ=ENOUGH | {"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"})

    assert Path("/var/lib/one") == loaded.settings.agent.state_dir
    assert "$STATE_DIRECTORY" == loaded.origins["agent.state_dir"]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    config = _file(
        tmp_path,
        """
        slots = 1
        [agent]
        slotz = 2
        slots = "two"
        drain_s = 300
        [agnet]
        name = "x"
        [control_plane]
        url = "http://overmind.example"
        token_file = "missing"
        [models.local]
        base_url = "https://m.example"
        """,
    )
    environ = {"OVERMIND_AGENT_AGENT__NAM": "x", "OVERMIND_AGENT_NOTHING_LIKE_IT": "x"}

    problems = _problems({"agent.grace_s": 20}, config=config, environ=environ)

    assert {
        (
            f"control_plane.token_file ({config}): {tmp_path / 'missing'} does not exist; write the secret into "
            "it and run chmod 600 on it"
        ),
        (
            f"control_plane.url ({config}): must start with https:// (got 'http://overmind.example'); set "
            "control_plane.allow_http to permit it"
        ),
        (
            f"agent.slots ({config}): input should be a valid integer, unable to parse string as an integer "
            "(got 'two'); write a whole number"
        ),
        (
            "agent.grace_s (command line): 20 s + 5 s is more than a third of the lease of 60 s, so a job that "
            "lost its lease would outlive it; set at most 15"
        ),
        (
            "agent.stop_timeout_s (default): drain_s + grace_s + 30 s for the last reports + 15 s is 345 s, "
            "more than 330 s; lower drain_s, or raise this together with the service manager's own limit "
            "(TimeoutStopSec, stop_grace_period)"
        ),
        f"agent.slotz ({config}): unknown key; did you mean agent.slots?",
        "agent.nam ($OVERMIND_AGENT_AGENT__NAM): unknown key; did you mean $OVERMIND_AGENT_AGENT__NAME?",
        f"slots ({config}): unknown key; did you mean agent.slots?",
        f"agnet ({config}): unknown key; did you mean agent?",
        "nothing_like_it ($OVERMIND_AGENT_NOTHING_LIKE_IT): unknown key; remove it",
        f"models.local.model ({config}): it is not set; set it",
    } == set(problems)


def test_an_address_and_a_token_must_be_there() -> None:
    problems = _problems(environ={})

    assert [
        (
            "control_plane.url: there is no address of a control plane; set it in the configuration file or as "
            "$OVERMIND_API_URL"
        ),
        (
            "control_plane.token_file: there is no token; name a file of mode 0600 that holds one, here or with "
            "--token-file, or set $OVERMIND_API_KEY"
        ),
    ] == problems


def test_a_command_that_asks_nobody_needs_neither(tmp_path: Path) -> None:
    config = _file(tmp_path, '[control_plane]\ntoken_file = "not-readable-for-me"\n')

    loaded = load(config=config, environ={}, needs_control_plane=False)

    assert "" == loaded.settings.control_plane.url


@pytest.mark.parametrize("name", ["token", "api_key"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, name: str) -> None:
    text = """
        [control_plane]
        token = "ovr_secret"
        [models.a]
        base_url = "https://m.example"
        model = "m"
        api_key = "ovr_secret"
        """

    problems = _problems(config=_file(tmp_path, text))

    assert 1 == len([problem for problem in problems if f".{name} (" in problem])
    assert "ovr_secret" not in "".join(problems)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"

    assert [f"{path}: cannot be read: no such file or directory; name an existing file with --config"] == _problems(
        config=path
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[agent]\nslots = = 1\n", "not valid TOML: invalid value (at line 2, column 9)"),
        (b"[agent]\nslots = 1\nslots = 2\n", "not valid TOML: cannot overwrite a value (at line 3, column 10)"),
        (b"[agent]\nname = '\xff'\n", "not UTF-8 (byte 16)"),
        ("[agent]".encode("utf-16"), "is UTF-16, as its byte order mark says"),
        (b"a = " + b"[" * 5000, "not valid TOML: nested too deep"),
        (b'[agent]\ndata_roots = ["/srv", "\\u0000"]\n', "agent.data_roots holds a NUL"),
        (b'[agent]\nname = "a\\u0000"\n', "agent.name holds a NUL"),
        (b"[agent]\nslots = " + b"9" * 5000 + b"\n", "not valid TOML: a number has thousands of digits"),
        (b"#" * (1 << 20) + b"\n", "has more than 1,048,576 bytes"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_with_the_line(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)

    problems = _problems(config=path, environ={})

    assert 1 == len(problems)
    assert problems[0].startswith(f"{path}: {what}; ")


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    text = "[agent]\nslots = 0\n"
    path.write_text(text)
    without = _problems(config=path, environ={})

    path.write_text(text, encoding="utf-8-sig")

    assert without == _problems(config=path, environ={})


def test_what_is_no_file_is_refused_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path in (pipe, Path("/dev/zero"), Path("/dev/null"), tmp_path):
        (problem,) = _problems(config=path, environ={})
        assert problem.startswith(f"{path}: is not a regular file; name one with --config"), problem


def test_a_link_to_a_configuration_is_one(tmp_path: Path) -> None:
    """So Kubernetes mounts them."""
    link = tmp_path / "link.toml"
    link.symlink_to(_file(tmp_path, "[agent]\nslots = 3\n"))

    assert 3 == load(config=link, environ=ENOUGH).settings.agent.slots


def test_a_poll_longer_than_the_watchdog_bears_is_refused() -> None:
    problems = _problems(environ=ENOUGH | {"WATCHDOG_USEC": "30000000"})

    assert ["control_plane.poll_wait_s (default)"] == [problem.partition(":")[0] for problem in problems]
    assert load(environ=ENOUGH | {"WATCHDOG_USEC": "60000000"}).settings.control_plane.poll_wait_s == 20


def test_each_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    config = _file(tmp_path, '[agent]\nslots = 2\n[models.a]\nbase_url = "https://m.example"\nmodel = "m"\n')

    loaded = load({"agent.nice": 7}, config=config, environ=ENOUGH)
    rows = {key: (value, origin) for key, value, origin in loaded.rows()}

    assert ("7", "command line") == rows["agent.nice"]
    assert ("2", str(config)) == rows["agent.slots"]
    assert ("https://overmind.example", "$OVERMIND_API_URL") == rows["control_plane.url"]
    assert (MASKED, "$OVERMIND_API_KEY") == rows["control_plane.token"]
    assert ("10", "default") == rows["agent.grace_s"]
    assert ("m", str(config)) == rows["models.a.model"]
    assert "ovr_test" not in str(loaded.rows())


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OVERMIND_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OVERMIND_API_URL", "https://overmind.example")
    monkeypatch.setenv("OVERMIND_API_KEY", "ovr_test")

    assert "https://overmind.example" == load().settings.control_plane.url
