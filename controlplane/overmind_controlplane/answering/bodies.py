"""Request bodies: read up to a limit, as strict JSON, into wire models; and their OpenAPI description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from overmind_agent import wire
from overmind_agent.errors import ProtocolError
from overmind_controlplane.refusals import TooLarge, not_valid, wrong

# A hundred small result files, or the names and digests of ten thousand.
MAX_JSON_BYTES: Final = 4 << 20

ModelT = TypeVar("ModelT", bound=BaseModel)

_described: dict[str, type[BaseModel]] = {}


async def read(request: Request, limit: int) -> bytes:
    """
    The whole body.

    Raises:
        TooLarge: it is longer than *limit* bytes; where it says its length, nothing of it is read.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise TooLarge(f"the body has {told} bytes; at most {limit} are taken")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the body is longer than {limit} bytes")
    return bytes(body)


def json_body(model: type[ModelT], *, empty: bytes = b"") -> Callable[[Request], Awaitable[ModelT]]:
    """
    A dependency that gives the body as *model*.

    Args:
        empty: what an empty body stands for, where the body is optional.
    """

    async def body(request: Request) -> ModelT:
        raw = await read(request, MAX_JSON_BYTES) or empty
        try:
            return wire.parse(model, raw)
        except ProtocolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise not_valid(error.__cause__) from error
            raise wrong(str(error), "body", kind="json_invalid") from error

    return body


def takes(model: type[BaseModel], *, optional: bool = False) -> dict[str, Any]:
    """What the OpenAPI page says of a route that reads *model* by itself."""
    _described[model.__name__] = model
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": not optional, "content": {"application/json": {"schema": schema}}}}


def describe(openapi: dict[str, Any]) -> dict[str, Any]:
    """*openapi* with the schemas of all bodies that `takes` named."""
    _, made = models_json_schema(
        [(model, "validation") for model in _described.values()], ref_template="#/components/schemas/{model}"
    )
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in made.get("$defs", {}).items():
        schemas.setdefault(name, schema)
    return openapi
