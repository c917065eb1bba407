"""What all models of the wire share: how strict they are, and the words that they are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

# Servers make UUIDs, but the published types say only `str`. What is accepted is safe in a path and in a URL.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{96}$")]
Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


# No NUL: neither a file system nor PostgreSQL takes one.
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
Label = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]


class Wire(BaseModel):
    """What all models share: strict types, no NaN, unknown keys ignored, built only when first used."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore", frozen=True, defer_build=True)


class Asked(Wire):
    """A request body: as `Wire`, but a key that is not known is refused by name."""

    model_config = ConfigDict(extra="forbid")
