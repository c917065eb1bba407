"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong.

    Attributes:
        where: the key and where its value comes from, such as `agent.slots (/etc/overmind-agent/agent.toml)`.
        what: what is wrong, never a secret.
        remedy: what to do.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


class SettingsError(Exception):
    """
    The configuration cannot be used; the message has one line for each problem.

    Attributes:
        problems: all that could be found, in a stable order.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
