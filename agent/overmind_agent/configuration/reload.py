"""
The configuration, read anew while the daemon works: all of it is in force afterwards, or nothing of it.

What only a start can change stays as it is and is named. A job that runs goes on under what it began with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from overmind_agent.control.line import Refusal
from overmind_config.changes import changed_keys, is_live, live_part
from overmind_config.problems import SettingsError
from overmind_config.settings import Settings


class Reload:
    """
    Safe to call from any thread; one reload at a time.

    Args:
        read_again: the configuration as it is written now; raises SettingsError.
        in_force: the settings that hold.
        apply: puts settings in force; must not fail halfway.
    """

    def __init__(
        self,
        *,
        read_again: Callable[[], Settings],
        in_force: Callable[[], Settings],
        apply: Callable[[Settings], object],
        log: FilteringBoundLogger,
    ) -> None:
        self._read_again = read_again
        self._in_force = in_force
        self._apply = apply
        self._log = log
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[str, Any]:
        """
        Read and apply; returns the keys that are in force now, and those that need a restart.

        Raises:
            Refusal: `config_refused`, with every problem; nothing has changed.
        """
        with self._lock:
            now = self._in_force()
            try:
                wanted = self._read_again()
            except SettingsError as error:
                problems = [str(problem) for problem in error.problems]
                self._log.error("config.refused", problems=problems, hint="what was in force before still is")
                raise Refusal(
                    "config_refused", "the configuration is wrong; nothing was changed", problems
                ) from error
            changed = changed_keys(now, wanted)
            applied = [key for key in changed if is_live(key)]
            self._apply(live_part(now, wanted))
            left = [key for key in changed if not is_live(key)]
            self._log.info("config.reloaded", applied=applied, needs_restart=left)
            return {"applied": applied, "needs_restart": left}

    def in_its_own_thread(self) -> None:
        """For a signal: whoever waits for signals must not wait for files."""
        threading.Thread(target=self._quietly, name="reload", daemon=True).start()

    def _quietly(self) -> None:
        try:
            self()
        except Refusal:
            return  # it was logged
        except Exception:
            self._log.exception("config.not_reloaded")
