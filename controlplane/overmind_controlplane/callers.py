"""Who calls: tokens looked up together where calls come together, each against the database, every time."""

from __future__ import annotations

from collections.abc import Sequence

from overmind_controlplane.access import authenticate_all
from overmind_controlplane.caller import Caller
from overmind_controlplane.record.batches import Batches
from overmind_controlplane.record.database import Database


class Callers:
    """Authenticates. Nothing is remembered: a token that is revoked is refused from that moment on, everywhere."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches = Batches(self._look_up)

    @property
    def batched(self) -> tuple[int, int]:
        """How many batches there were, and how many calls in all of them."""
        return self._batches.batched

    async def who(self, secret: str | None) -> Caller:
        """
        Who holds *secret*.

        Raises:
            NotAuthenticated: nobody, or the token was revoked or has expired.
        """
        return await self._batches.ask(secret)

    def _look_up(self, secrets: Sequence[str | None]) -> Sequence[Caller | Exception]:
        with self._database.glance() as session:
            return authenticate_all(session, secrets)
