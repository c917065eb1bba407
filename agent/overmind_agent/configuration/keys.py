"""The secrets of this host as they are now: the control plane's token and the keys of its models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from overmind_agent.signing.keys import UnusableKey, read_key
from overmind_config.secret_files import RotatingSecret
from overmind_config.settings import Settings

_MOST_MASKED_BYTES: Final = 64 << 10


class HostKeys:
    """
    Each is read again whenever its file changes. Safe to use from any thread.

    Args:
        on_new: told of each secret before anybody gets it, so that it can be masked.
    """

    def __init__(self, settings: Settings, on_new: Callable[[str], object]) -> None:
        self._on_new = on_new
        self.take(settings)

    def take(self, settings: Settings) -> None:
        """From now on the files that *settings* name."""
        for secret in (*settings.secrets(), *_shared_secrets(settings)):
            self._on_new(secret)
        plane = settings.control_plane
        token = plane.token.get_secret_value() if plane.token else ""
        self._token = RotatingSecret(token, plane.token_file, self._on_new)
        self._of_models = {
            name: RotatingSecret(model.api_key.get_secret_value(), model.api_key_file, self._on_new)
            for name, model in settings.models.items()
            if model.api_key is not None
        }

    def token(self) -> str:
        """The control plane's."""
        return self._token.current()

    def of_model(self, name: str) -> str:
        """That of the model of that name, empty for none."""
        key = self._of_models.get(name)
        return key.current() if key is not None else ""


def _shared_secrets(settings: Settings) -> Iterator[str]:
    """Those that jobs are signed with, and those of functions. What cannot be read now is said elsewhere."""
    for path in settings.policy.signing_keys.values():
        with suppress(UnusableKey):
            if (key := read_key(path, to_sign=False)).is_secret:
                yield key.content
    for path in settings.functions.credentials.values():
        with suppress(OSError, UnicodeDecodeError):
            if path.stat().st_size <= _MOST_MASKED_BYTES:
                yield path.read_text(encoding="utf-8")
