"""Which modules the executors of installed packages may come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from overmind_agent.configuration import checked as configuration
from overmind_config.problems import SettingsError
from overmind_executors import registry


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with an executor for `ledger` is installed."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "kit" / "python_path"))


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("policy", "is_refused"),
    [
        ("", False),
        ("executors = []", True),
        ('executors = ["acme_executors"]', True),
        ('executors = ["acme_executors", "ledger_executor"]', False),
    ],
)
def test_an_executor_of_a_module_that_the_host_does_not_name_is_refused_at_the_start(
    tmp_path: Path, policy: str, *, is_refused: bool
) -> None:
    """Ours may always run; a job type alone says nothing about whose code does its work."""
    config = tmp_path / "agent.toml"
    (tmp_path / "token").write_text("ovr_of_an_agent_1")
    (tmp_path / "token").chmod(0o600)
    plane = '[control_plane]\nurl = "http://127.0.0.1:1"\ntoken_file = "token"\n'
    config.write_text(f'{plane}[agent]\njob_types = ["inference", "ledger"]\n[policy]\n{policy}\n')

    try:
        configuration.read({}, config)
        said = ""
    except SettingsError as error:
        said = str(error)

    assert is_refused is ("ledger_executor, which the executor for 'ledger' comes from" in said)
    assert "inference" not in said


@pytest.mark.usefixtures("ledger")
def test_the_module_of_an_executor_is_known_before_it_is_imported() -> None:
    assert ["ledger_executor", "", ""] == [registry.module_of(name) for name in ("ledger", "inference", "none")]
