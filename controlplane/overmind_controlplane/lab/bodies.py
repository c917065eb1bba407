"""Bodies of the Overmind Lab dialect: strict JSON up to a limit, checked field by field; never a 422."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Request

from overmind_controlplane.answering import bodies
from overmind_controlplane.caller import Caller
from overmind_controlplane.lab.checks import Fields, an_id, schema
from overmind_controlplane.refusals import NotFound, Refused, WrongFields
from overmind_executors import strict_json

MAX_BODY_BYTES: Final = 8 << 20


async def lab_body(request: Request) -> Any:
    """
    The body, whatever JSON it is.

    Raises:
        Refused: it is not strict JSON.
    """
    try:
        return strict_json.loads(await bodies.read(request, MAX_BODY_BYTES))
    except strict_json.NotJson as error:
        raise Refused(f"JSON parse error - {error}") from error


Told = Annotated[Any, Depends(lab_body)]


def takes(fields: Fields, *, is_partial: bool = True) -> dict[str, Any]:
    """What the OpenAPI page says of a route that takes these fields."""
    content = {"application/json": {"schema": schema(fields, is_partial=is_partial)}}
    return {"requestBody": {"required": True, "content": content}}


def path_id(told: str) -> str:
    """
    The id in a path, in its canonical form.

    Raises:
        NotFound: it is no id, so there is nothing of that id.
    """
    try:
        return an_id(told)
    except ValueError:
        raise NotFound("Not found.") from None


def must_be_own_project(caller: Caller, project_id: str | None) -> None:
    """
    Raises:
        WrongFields: the body names a project that is not the token's.
    """
    if project_id not in (None, caller.project_id):
        raise unknown("project", project_id)


def unknown(field: str, told: str | None) -> WrongFields:
    """A field names something that is not there, or is another project's."""
    return WrongFields({field: [f'Invalid pk "{told}" - object does not exist.']})
