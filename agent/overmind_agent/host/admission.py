"""Whether this host takes jobs now, and if not, why: for its workers, and for the control plane to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping

WhyNot = Callable[[], str | None]


class Admission:
    """
    Gates that must all be open before a job is asked for. Safe to use from any thread.

    Args:
        gates: by name, in the order in which they are asked; each says why it is shut, None when it is open.
    """

    def __init__(self, gates: Mapping[str, WhyNot]) -> None:
        self._gates = dict(gates)
        self._shut: tuple[str, str] | None = None

    def refusal(self) -> str | None:
        """Why no job can be taken now, as the first shut gate says it; None when one can."""
        found = ((name, gate()) for name, gate in self._gates.items())
        self._shut = next(((name, why) for name, why in found if why is not None), None)
        return f"not accepting: {self._shut[0]}: {self._shut[1]}" if self._shut else None

    @property
    def shut(self) -> tuple[str, str] | None:
        """What `refusal` found when it was last asked: the shut gate and why it is, None for none."""
        return self._shut
