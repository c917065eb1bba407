"""Who may call each route, read off the routes themselves; a route that does not say is refused at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from overmind_controlplane.answering.routing import AgentCaller, AnyCaller, Operator, Submitter, open_to_all
from overmind_controlplane.caller import Role
from overmind_controlplane.page.visits import administrator, person

EVERYBODY: Final = frozenset(Role)


class UndeclaredRole(Exception):
    """A route says neither who may call it nor that everybody may: a bug of ours."""


def _dependency(annotation: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = annotation.__metadata__[0].dependency
    return found


# The narrow ones first: each of them asks for a token too.
_DECLARES: Final[tuple[tuple[Callable[..., Any], frozenset[Role] | None], ...]] = (
    (administrator, frozenset({Role.ADMIN})),
    (person, frozenset({Role.SUBMIT, Role.ADMIN})),
    (_dependency(Operator), frozenset({Role.ADMIN})),
    (_dependency(Submitter), frozenset({Role.SUBMIT, Role.ADMIN})),
    (_dependency(AgentCaller), frozenset({Role.AGENT, Role.ADMIN})),
    (_dependency(AnyCaller), EVERYBODY),
    (open_to_all, None),
)


def routes_of(*routers: APIRouter) -> Iterator[APIRoute]:
    """Every route of *routers* and of those that they include."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield route
            elif isinstance(included := getattr(route, "original_router", None), APIRouter):
                yield from routes_of(included)


def allowed(route: APIRoute) -> frozenset[Role] | None:
    """
    The roles that may call *route*, None when it needs no token. It may ask for more of a caller when it runs.

    Raises:
        UndeclaredRole: it does not say.
    """
    calls = set(_calls(route.dependant))
    for call, roles in _DECLARES:
        if call in calls:
            return roles
    raise UndeclaredRole(f"{'/'.join(sorted(route.methods or ()))} {route.path} does not say who may call it")


def must_be_declared(*routers: APIRouter) -> None:
    """
    Raises:
        UndeclaredRole: a route of *routers* does not say who may call it.
    """
    for route in routes_of(*routers):
        allowed(route)


def _calls(dependant: Dependant) -> Iterator[Any]:
    for needed in dependant.dependencies:
        yield needed.call
        yield from _calls(needed)
