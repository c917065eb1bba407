"""Reading the configuration: one call, all problems at once, and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from overmind_config.explain import explain, place
from overmind_config.keys import ANY_NAME, KeyPath, known_keys
from overmind_config.problems import Problem, SettingsError
from overmind_config.secret_files import UnusableSecret, read_secret
from overmind_config.settings import Settings
from overmind_config.sources import (
    TOKEN,
    TOKEN_FILE,
    Layer,
    Layered,
    config_file,
    from_credentials,
    from_environment,
    from_file,
    from_flags,
    from_host,
    is_credential,
    is_root,
)

MASKED: Final = "**********"
URL: Final = ("control_plane", "url")
POLL_WAIT: Final = ("control_plane", "poll_wait_s")
POLL_SLACK_S: Final = 10.0  # what a poll may take beyond the time for which it is held open


@dataclass(frozen=True)
class Loaded:
    """
    The configuration as it holds.

    Attributes:
        origins: where each value comes from, by dotted key; what is not named is a default.
        file: the configuration file that was read, None for none.
    """

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Every setting as (key, value, origin), secrets masked, in the order of the reference file."""
        return tuple((key, _shown(self.settings, key), self.origins.get(key, "default")) for key in self._keys())

    def _keys(self) -> Iterator[str]:
        general = [key for key in known_keys() if ANY_NAME not in key]
        of_a_model = [key for key in known_keys() if ANY_NAME in key]
        yield from general
        for name in self.settings.models:
            yield from (key.replace(ANY_NAME, name) for key in of_a_model)


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    needs_control_plane: bool = True,
) -> Loaded:
    """
    Read the configuration.

    Args:
        flags: by dotted key, such as `{"agent.slots": 2}`; None stands for a flag that was not given.
        config: the file to read; it must exist.
        environ: the process's own environment when None.
        needs_control_plane: whether there must be an address and a token, and the key files are read.

    Raises:
        SettingsError: names every problem.
    """
    environ = os.environ if environ is None else environ
    file = config_file(config, environ)
    layers = _layers(flags or {}, file, environ)
    problems = [problem for layer in layers for problem in layer.problems]
    tree = Layered.merge(layers)
    if needs_control_plane:
        problems += _fill_secrets(tree, layers, environ)
        problems += _missing(tree, layers)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError([*problems, *explain(error, layers)]) from error
    problems += _watchdog_too_short(settings, layers, environ)
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, _origins(layers), file)


def _layers(flags: Mapping[str, Any], file: Path | None, environ: Mapping[str, str]) -> list[Layer]:
    """Strongest first."""
    layers = [
        from_flags(flags),
        from_environment(environ),
        from_credentials(environ),
        *([from_file(file)] if file else []),
        from_host(environ, is_root=is_root()),
    ]
    return _with_one_token([_without_computed(layer) for layer in layers])


def _without_computed(layer: Layer) -> Layer:
    """A key itself is never configured, only the file that holds it."""
    written = [path for path in layer.values if path[:1] == ("models",) and path[2:] == ("api_key",)]
    problems = [
        Problem(
            f"{'.'.join(path)} ({layer.origins[path]})",
            "a key does not belong into a configuration",
            "put it into a file of its own, run chmod 600 on it and name it in api_key_file",
        )
        for path in written
    ]
    kept = {path: value for path, value in layer.values.items() if path not in written}
    return replace(layer, values=kept, problems=(*layer.problems, *problems))


def _with_one_token(layers: Sequence[Layer]) -> list[Layer]:
    """
    The token of the strongest layer that has one; a token and the file of one are the same thing twice.

    Else a forgotten `token_file` would be read, and have to be there, although the environment has the token.
    """
    kept: list[Layer] = []
    is_found = False
    for layer in layers:
        here = {TOKEN, TOKEN_FILE} & layer.values.keys()
        drop = here if is_found else {TOKEN_FILE} if len(here) == 2 else set()
        is_found = is_found or bool(here)
        kept.append(
            replace(
                layer,
                values={path: value for path, value in layer.values.items() if path not in drop},
                origins={path: name for path, name in layer.origins.items() if path not in drop},
            )
        )
    return kept


def _at(tree: Mapping[str, Any], path: KeyPath) -> Any:
    value: Any = tree
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _fill_secrets(tree: dict[str, Any], layers: Sequence[Layer], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Read the files that hold a token or a key, and put what they hold beside their names in *tree*."""
    models = _at(tree, ("models",))
    sections: list[tuple[KeyPath, str]] = [(TOKEN_FILE, "token")]
    sections += [
        (("models", name, "api_key_file"), "api_key") for name in (models if isinstance(models, dict) else ())
    ]
    for path, name in sections:
        value = _at(tree, path)
        if not value or not isinstance(value, (str, Path)):
            continue
        file = Path(value).expanduser()
        try:
            secret = read_secret(file, check_mode=not is_credential(file, environ))
        except UnusableSecret as error:
            yield Problem(place(path, layers), error.what, error.remedy)
        else:
            _at(tree, path[:-1])[name] = SecretStr(secret)


def _missing(tree: Mapping[str, Any], layers: Sequence[Layer]) -> Iterator[Problem]:
    if any(layer.problems for layer in layers):
        return  # a file that cannot be read may well hold them
    if not _at(tree, URL):
        yield Problem(
            "control_plane.url",
            "there is no address of a control plane",
            "set it in the configuration file or as $OVERMIND_API_URL",
        )
    if not _at(tree, TOKEN) and not _at(tree, TOKEN_FILE):
        yield Problem(
            "control_plane.token_file",
            "there is no token",
            "name a file of mode 0600 that holds one, here or with --token-file, or set $OVERMIND_API_KEY",
        )


def _watchdog_too_short(
    settings: Settings, layers: Sequence[Layer], environ: Mapping[str, str]
) -> Iterator[Problem]:
    """A poll that is held open must not look like a loop that stands still: half of the limit is for it."""
    digits = environ.get("WATCHDOG_USEC", "")
    if not digits.isdecimal() or int(digits) == 0:
        return
    watchdog_s = int(digits) / 1e6
    needed_s = 2 * (settings.control_plane.poll_wait_s + POLL_SLACK_S)
    if needed_s > watchdog_s:
        yield Problem(
            place(POLL_WAIT, layers),
            f"twice the poll and {POLL_SLACK_S:g} s is {needed_s:g} s, more than the watchdog's {watchdog_s:g} s",
            "lower it, or raise WatchdogSec in the unit",
        )


def _origins(layers: Sequence[Layer]) -> dict[str, str]:
    origins: dict[str, str] = {}
    for layer in layers:
        for path, name in layer.origins.items():
            origins.setdefault(".".join(path), name)
    return origins


def _shown(settings: Settings, key: str) -> str:
    value: Any = settings
    for step in key.split("."):
        value = value[step] if isinstance(value, Mapping) else getattr(value, step)
    if key == "control_plane.proxy" and "@" in str(value):
        return MASKED
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
