"""
Where values come from, one layer for each place, strongest first:

flags, environment, systemd credentials, configuration file, what the host says. Defaults are the models' own.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from overmind_config.keys import KeyPath, holds_paths
from overmind_config.problems import Problem
from overmind_config.toml_file import NoConfiguration, text_of

PREFIX: Final = "OVERMIND_AGENT_"
CONFIG_VARIABLE: Final = "OVERMIND_AGENT_CONFIG"
DEFAULT_CONFIG: Final = Path("/etc/overmind-agent/agent.toml")

TOKEN: Final = ("control_plane", "token")
TOKEN_FILE: Final = ("control_plane", "token_file")
STATE_DIR: Final = ("agent", "state_dir")
CREDENTIAL: Final = "$CREDENTIALS_DIRECTORY/token"

# The names that Overmind's own clients read; of two for the same key the first that is set counts.
ESTABLISHED: Final[dict[str, KeyPath]] = {
    "OVERMIND_API_URL": ("control_plane", "url"),
    "OVERMIND_API_KEY": TOKEN,
    "OVERMIND_API_TOKEN": TOKEN,
}


@dataclass(frozen=True)
class Layer:
    """
    The values of one place.

    Attributes:
        values: by the path of their key; an empty table is a value too.
        origins: what to call the place of each value.
        problems: why values of this place could not be read.
    """

    values: Mapping[KeyPath, Any] = field(default_factory=dict)
    origins: Mapping[KeyPath, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def tree(self) -> dict[str, Any]:
        """The values as nested tables. Where a value stands in the way of a table, the value wins."""
        root: dict[str, Any] = {}
        for path, value in self.values.items():
            table: Any = root
            for step in path[:-1]:
                table = table.setdefault(step, {}) if isinstance(table, dict) else None
            if isinstance(table, dict):
                table[path[-1]] = value
        return root


def from_flags(flags: Mapping[str, Any]) -> Layer:
    """*flags* by dotted key; None is a flag that was not given."""
    values = {tuple(key.split(".")): value for key, value in flags.items() if value is not None}
    return Layer(values, dict.fromkeys(values, "command line"))


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Established names, and `OVERMIND_AGENT_SECTION__KEY`, which is the stronger. An empty variable is not set."""
    values: dict[KeyPath, Any] = {}
    origins: dict[KeyPath, str] = {}
    for name, path in _variables(environ):
        if environ[name] and path not in values:
            values[path] = environ[name]
            origins[path] = f"${name}"
    return Layer(values, origins)


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, KeyPath]]:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            yield name, tuple(name.removeprefix(PREFIX).lower().split("__"))
    for name, path in ESTABLISHED.items():
        if name in environ:
            yield name, path


def from_credentials(environ: Mapping[str, str]) -> Layer:
    """The file that systemd makes of `LoadCredential=token:…`."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder or not (file := Path(folder, "token")).is_file():
        return Layer()
    return Layer({TOKEN_FILE: file}, {TOKEN_FILE: CREDENTIAL})


def is_credential(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether systemd has put the file *path* there for this service, which makes its rights systemd's affair."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(str(folder))


def from_host(environ: Mapping[str, str], *, is_root: bool) -> Layer:
    """The state folder that fits the user: the service manager's, or one of the user's own."""
    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if folder:
        return Layer({STATE_DIR: folder}, {STATE_DIR: "$STATE_DIRECTORY"})
    if is_root:
        return Layer()
    return Layer({STATE_DIR: "~/.local/state/overmind-agent"}, {STATE_DIR: "default for a user"})


def config_file(asked: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Which file to read: the one asked for, the environment's, the usual one if it exists, or none."""
    if asked is not None:
        return asked
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def from_file(path: Path) -> Layer:
    """The configuration file; a relative path in it counts from its own folder."""
    try:
        table = tomllib.loads(text_of(path))
    except NoConfiguration as error:
        return _unreadable(path, error.what, error.remedy)
    except tomllib.TOMLDecodeError as error:
        return _unreadable(path, f"not valid TOML: {_lower_first(str(error))}", "correct that line")
    except RecursionError:
        return _unreadable(path, "not valid TOML: nested too deep", "take the brackets out")
    except ValueError:  # what `int` says of thousands of digits
        return _unreadable(path, "not valid TOML: a number has thousands of digits", "write a smaller one")
    flat = dict(_flatten(table, ()))
    for key, value in flat.items():
        if _holds_nul(value):
            name = ".".join(key)
            return _unreadable(path, f"{name} holds a NUL", "take it out")
    values = {key: _beside(path, key, value) for key, value in flat.items()}
    return Layer(values, dict.fromkeys(values, str(path)), tuple(_exposed(path, values)))


def _unreadable(path: Path, what: str, remedy: str) -> Layer:
    return Layer(problems=(Problem(str(path), what, remedy),))


def _holds_nul(value: Any) -> bool:
    """Only a file can write one: flags and variables end there."""
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, str) and "\0" in value


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _flatten(table: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, (*path, name))
        else:
            yield (*path, name), value


def _beside(file: Path, key: KeyPath, value: Any) -> Any:
    if not holds_paths(key):
        return value
    if isinstance(value, list):
        return [_beside(file, key, item) for item in value]
    if not isinstance(value, str) or not value or value.startswith("~"):
        return value
    return file.absolute().parent / value


def _exposed(path: Path, values: Mapping[KeyPath, Any]) -> Iterator[Problem]:
    if TOKEN in values:
        yield Problem(
            f"control_plane.token ({path})",
            "a token does not belong into a configuration file",
            "put it into a file of its own, run chmod 600 on it and name it in control_plane.token_file",
        )


def is_root() -> bool:
    """Whether this process may write to the system's own folders."""
    return os.geteuid() == 0


class Layered(BaseSettings):
    """
    The layers laid over each other, not yet checked.

    Nothing but the given layers is read.
    """

    model_config = SettingsConfigDict(extra="allow")

    @classmethod
    def merge(cls, layers: Sequence[Layer]) -> dict[str, Any]:
        """The values of all *layers*, strongest first, as one tree of tables."""
        merged = cls(layers=layers)
        return dict(merged.model_extra or {})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings' own
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """One source for each layer, in their order."""
        return tuple(_Source(settings_cls, layer) for layer in init_settings()["layers"])


class _Source(PydanticBaseSettingsSource):
    """A layer in the form that pydantic-settings merges."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._tree = layer.tree()

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - likewise
        """One value; `Layered` has no fields of its own, so this is never needed."""
        return self._tree.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values."""
        return self._tree
