"""Who asks, as a value: what a token says of its holder, and what its role covers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from overmind_controlplane.refusals import Forbidden


class Role(StrEnum):
    """What a token is for."""

    SUBMIT = "submit"
    AGENT = "agent"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what *needed* may; an admin may do both."""
        return self is needed or self is Role.ADMIN


@dataclass(frozen=True)
class Caller:
    """
    Who asks.

    Attributes:
        token_id: stands as `created_by_id` in what the caller makes.
        number: the integer user of the Lab dialect.
        project_id: where what the caller makes belongs.
        more_projects: whose jobs an agent may take besides.
        expires_at: when its token ends, None for never.
    """

    token_id: str
    number: int
    project_id: str
    role: Role
    name: str
    more_projects: frozenset[str] = frozenset()
    expires_at: datetime | None = None

    @property
    def projects(self) -> frozenset[str]:
        """All projects that the caller sees."""
        return self.more_projects | {self.project_id}

    def within(self, project_id: str) -> Caller:
        """The same caller at work in another of its projects."""
        return replace(self, project_id=project_id, more_projects=self.projects - {project_id})

    def must_be(self, needed: Role) -> None:
        """
        Raises:
            Forbidden: the role of the token does not cover *needed*.
        """
        if not self.role.covers(needed):
            raise Forbidden(
                f"this needs a token with role {needed.value} or admin (this one has {self.role.value})"
            )
