"""How each dialect writes a refusal: one rule's no, three shapes."""

from __future__ import annotations

from typing import Any

from overmind_controlplane.dialects import OPTIMISATION_ROOT
from overmind_controlplane.refusals import Invalid, Refused, WrongFields


def body(path: str, error: Refused) -> dict[str, Any]:
    """The body of the answer to a call of *path*."""
    if is_optimisation(path):
        return {"message": error.detail, **({"code": error.code} if error.code else {})}
    if isinstance(error, WrongFields):
        return dict(error.fields)
    detail: Any = error.problems if isinstance(error, Invalid) else error.detail
    return {"detail": detail, **({"code": error.code} if error.code else {}), **error.more}


def is_optimisation(path: str) -> bool:
    """Whether *path* is one of the prompt-optimisation dialect."""
    return path.startswith(OPTIMISATION_ROOT)
