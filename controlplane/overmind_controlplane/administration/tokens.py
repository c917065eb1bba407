"""The commands `token`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overmind_controlplane.administration.shared import REFUSED, add_store, fail, show

if TYPE_CHECKING:
    from overmind_controlplane.record.tables import Token


def add(token: Any, environment: Mapping[str, str]) -> None:
    """Add them to the commands of *token*."""
    create = token.add_parser("create", help="make a token; prints it, once")
    create.add_argument(
        "--project", required=True, action="append", metavar="NAME", help="repeat it for an agent of several"
    )
    create.add_argument("--role", required=True, choices=("submit", "agent", "admin"))
    create.add_argument("--expires-days", type=float, metavar="N", help="default: never")
    create.add_argument("--name", default="", metavar="TEXT", help="what it is for")
    add_store(create, environment, _create)
    add_store(token.add_parser("list", help="list tokens, without their secrets"), environment, _list)
    revoke = token.add_parser("revoke", help="end a token")
    revoke.add_argument("id", metavar="ID", help="as `token list` shows it")
    add_store(revoke, environment, _revoke)


def _create(arguments: argparse.Namespace) -> int:
    from overmind_controlplane.access import make_token
    from overmind_controlplane.caller import Role
    from overmind_controlplane.plane import open_database
    from overmind_controlplane.refusals import Refused

    try:
        with open_database(arguments.data, arguments.database).write() as session:
            secret, token = make_token(
                session,
                arguments.project[0],
                Role(arguments.role),
                expires_days=arguments.expires_days,
                name=arguments.name,
                more_projects=arguments.project[1:],
            )
    except Refused as error:
        return fail(error.detail, REFUSED)
    show({"token": secret, **_record(token, arguments.project[0])} if arguments.json else secret)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from sqlalchemy import select

    from overmind_controlplane.plane import open_database
    from overmind_controlplane.record.tables import Project, Token

    listed = select(Token, Project.name).join(Project, Project.id == Token.project_id).order_by(Token.number)
    with open_database(arguments.data, arguments.database).read() as session:
        records = [_record(token, project) for token, project in session.execute(listed)]
    if arguments.json:
        show(records)
        return 0
    for record in records:
        state = "revoked" if record["revoked_at"] else f"expires {record['expires_at'] or 'never'}"
        show(f"{record['id']}  {record['project']}  {record['role']}  {state}  {record['name']}".rstrip())
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from overmind_controlplane.access import revoke
    from overmind_controlplane.plane import open_database
    from overmind_controlplane.refusals import Refused

    try:
        with open_database(arguments.data, arguments.database).write() as session:
            token = revoke(session, arguments.id)
    except Refused as error:
        return fail(error.detail, REFUSED)
    show(_record(token, None) if arguments.json else f"revoked {token.id}")
    return 0


def _record(token: Token, project: str | None) -> dict[str, Any]:
    return {
        "id": token.id,
        "project": project,
        "project_id": token.project_id,
        "more_projects": token.more_projects,
        "role": token.role,
        "name": token.name,
        "created": token.created.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
    }
