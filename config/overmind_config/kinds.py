"""The kinds of values that settings are: what each looks like, and how a list stands in an environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _split(value: Any) -> Any:
    """`a, b` as it is written in an environment variable."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


HostPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Names = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_@][A-Za-z0-9_.:@/-]*$", max_length=255)], ...],
    BeforeValidator(_split),
]
Hosts = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:*/_\[\]-]+$", max_length=255)], ...], BeforeValidator(_split)
]
Paths = Annotated[tuple[HostPath, ...], BeforeValidator(_split)]
Labels = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")], ...], BeforeValidator(_split)
]
Weights = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_@][A-Za-z0-9_.:@/-]*=[1-9][0-9]?$", max_length=258)], ...],
    BeforeValidator(_split),
]
ModelLines = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_@][A-Za-z0-9_.:@/-]*=[A-Za-z0-9][A-Za-z0-9_-]*$")], ...],
    BeforeValidator(_split),
]
Command = Annotated[tuple[str, ...], BeforeValidator(_split)]
Words = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")], ...], BeforeValidator(_split)
]
# More is a slip of the pen, and what is made of it no number any more.
Price = Annotated[float, Field(ge=0, le=1_000_000)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Section(BaseModel):
    """What all sections share: nothing unknown, nothing changed later, no `true` for a number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("input should not be true or false")
        return value


def web_address(url: str) -> SplitResult:
    """
    The parts of *url*.

    Raises:
        ValueError: it is not an address that we would send a token to.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must start with https:// and name a host; write it as https://overmind.example")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or a password; put the key into a file of its own")
    _ = parts.port  # raises ValueError for what is not a port
    return parts
