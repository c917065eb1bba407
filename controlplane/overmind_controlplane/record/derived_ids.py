"""Ids of things that have no row of their own, and yet are named in answers."""

from __future__ import annotations

import uuid
from typing import Final

_NAMES: Final = uuid.UUID("8a4ff3a5-5d53-4f6a-9a9c-0d5f9a3f7c11")
"""The name space of these ids."""


def derived_id(*parts: str) -> str:
    """The same id for the same parts, always."""
    return str(uuid.uuid5(_NAMES, "/".join(parts)))
