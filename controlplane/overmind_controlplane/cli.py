"""The command `overmind-control-plane`. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from overmind_controlplane.command_line import grammar as job_cli

if TYPE_CHECKING:
    from overmind_controlplane.record.tables import Project, Token

_EXIT_REFUSED: Final = 1
_EXIT_USAGE: Final = 64
_EXIT_CANNOT_LISTEN: Final = 69
_EXIT_IN_USE: Final = 73
_EXIT_CONFIG: Final = 78

_EXAMPLES: Final = """\
examples:
  overmind-control-plane project create demo --data ./plane
  (umask 077; overmind-control-plane token create --data ./plane --project demo --role agent > agent.token)
  overmind-control-plane serve --data ./plane
  overmind-control-plane token list --data ./plane --json
  overmind-control-plane job submit --type inference --parameters task.json --input rows.jsonl --wait
"""
# By whose absence it shows that the extra was not installed.
_EXTRA: Final = frozenset({"alembic", "fastapi", "jinja2", "sqlalchemy", "uvicorn"})
_DATABASE_VARIABLE: Final = "OVERMIND_DATABASE_URL"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Usage errors are 64 here, as in sysexits.h."""
        self.print_usage(sys.stderr)
        self.exit(_EXIT_USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Returns:
        Its exit code: 0 done, 1 refused, 64 usage, 69 no such address or no database, 73 data folder in use,
        78 the database was used by a newer version.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        return _fail("the control plane needs more: pip install 'overmind-agent[controlplane]'", _EXIT_CONFIG)
    except Exception as error:
        if (told := _about_database(error)) is None:
            raise
        return _fail(*told)
    return code


def _about_database(error: Exception) -> tuple[str, int] | None:
    """What to say, and the exit code, of an error that is about the database; nothing of its URL is in either."""
    from sqlalchemy.exc import SQLAlchemyError

    from overmind_controlplane.record.database_url import WrongDatabaseUrl
    from overmind_controlplane.record.migrating import NewerSchema

    if isinstance(error, WrongDatabaseUrl):
        return str(error), _EXIT_USAGE
    if isinstance(error, NewerSchema):
        return str(error), _EXIT_CONFIG
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        return "PostgreSQL needs a driver: pip install 'overmind-agent[postgres]'", _EXIT_USAGE
    if isinstance(error, SQLAlchemyError):
        return (
            f"the database cannot be used: {getattr(error, 'orig', None) or type(error).__name__}",
            _EXIT_CANNOT_LISTEN,
        )
    return None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="overmind-control-plane",
        description="A control plane for agents: holds jobs, hands them out, keeps their results.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run the server", epilog=_EXAMPLES, formatter_class=_raw()))
    project = commands.add_parser("project", help="make and list projects").add_subparsers(
        required=True, metavar="COMMAND"
    )
    create = project.add_parser("create", help="make a project; prints its id")
    create.add_argument("name", metavar="NAME")
    _add_shared(create, _create_project)
    _add_shared(project.add_parser("list", help="list projects"), _list_projects)
    token = commands.add_parser("token", help="make, list and revoke tokens")
    _add_tokens(token.add_subparsers(required=True, metavar="COMMAND"))
    restored = commands.add_parser("restored", help="say that a backup of the database was put back")
    _add_shared(restored, _restored)
    job_cli.add(commands, os.environ)
    completion = commands.add_parser("completion", help="a script for the shell that completes commands")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=lambda arguments: _completion(parser, arguments.shell))
    return parser


def _raw() -> type[argparse.HelpFormatter]:
    return argparse.RawDescriptionHelpFormatter


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(run=_serve)
    serve.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder that holds everything")
    _add_database(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", default=8470, type=int, help="0 for a free one (default: %(default)s)")
    serve.add_argument(
        "--allow-remote", action="store_true", help="allow an address that others can reach; put TLS before it"
    )
    serve.add_argument("--public-url", metavar="URL", help="how clients reach the server, if not by --host")
    serve.add_argument(
        "--lease-s", default=60.0, type=float, metavar="S", help="how long a claim holds (default: %(default)s)"
    )
    serve.add_argument(
        "--max-blob-bytes", default=8 << 30, type=int, metavar="N", help="longest file (default: %(default)s)"
    )
    serve.add_argument(
        "--rate-limit",
        default=1000.0,
        type=float,
        metavar="N",
        help="calls a second for each token, 0 for any number",
    )
    serve.add_argument(
        "--max-waiting-jobs",
        default=100_000,
        type=int,
        metavar="N",
        help="how many jobs of a project may wait, 0 for any number (default: %(default)s)",
    )
    serve.add_argument("--plain", action="store_true", help="speak only what the published client speaks")
    serve.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))


def _add_database(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--database",
        default=os.environ.get(_DATABASE_VARIABLE) or None,
        metavar="URL",
        help=f"postgresql+psycopg://user:secret@host/name (default: ${_DATABASE_VARIABLE}, else SQLite in --data)",
    )


def _add_tokens(token: Any) -> None:
    create = token.add_parser("create", help="make a token; prints it, once")
    create.add_argument(
        "--project", required=True, action="append", metavar="NAME", help="repeat it for an agent of several"
    )
    create.add_argument("--role", required=True, choices=("submit", "agent", "admin"))
    create.add_argument("--expires-days", type=float, metavar="N", help="default: never")
    create.add_argument("--name", default="", metavar="TEXT", help="what it is for")
    _add_shared(create, _create_token)
    listing = token.add_parser("list", help="list tokens, without their secrets")
    _add_shared(listing, _list_tokens)
    revoke = token.add_parser("revoke", help="end a token")
    revoke.add_argument("id", metavar="ID", help="as `token list` shows it")
    _add_shared(revoke, _revoke_token)


def _add_shared(command: argparse.ArgumentParser, run: Any) -> None:
    command.set_defaults(run=run)
    command.add_argument("--data", required=True, type=Path, metavar="DIR", help="the server's data folder")
    _add_database(command)
    command.add_argument("--json", action="store_true", help="print records as JSON")


def _serve(arguments: argparse.Namespace) -> int:
    is_loopback = arguments.host in _LOOPBACK
    if not is_loopback and not arguments.allow_remote:
        return _fail(
            f"--host {arguments.host} can be reached from elsewhere; add --allow-remote if that is meant",
            _EXIT_USAGE,
        )
    if arguments.lease_s <= 0 or arguments.max_blob_bytes <= 0 or not 0 <= arguments.port <= 65535:
        return _fail("--lease-s and --max-blob-bytes are positive, --port is 0 to 65535", _EXIT_USAGE)
    if not 0 <= arguments.rate_limit < float("inf"):
        return _fail("--rate-limit is a number of calls a second, or 0", _EXIT_USAGE)
    if arguments.max_waiting_jobs < 0:
        return _fail("--max-waiting-jobs is a number of jobs, or 0", _EXIT_USAGE)
    from overmind_controlplane.plane import Settings
    from overmind_controlplane.serving.server import DataInUse, serve

    settings = Settings(
        data=arguments.data,
        database_url=arguments.database,
        lease_s=arguments.lease_s,
        max_blob_bytes=arguments.max_blob_bytes,
        public_url=arguments.public_url,
        allowed_hosts=frozenset(_LOOPBACK) if is_loopback else None,
        rate_per_s=arguments.rate_limit,
        most_waiting=arguments.max_waiting_jobs,
        is_plain=arguments.plain,
    )
    try:
        serve(settings, arguments.host, arguments.port, log_level=arguments.log_level)
    except DataInUse as error:
        return _fail(str(error), _EXIT_IN_USE)
    except OSError as error:
        return _fail(
            f"cannot serve {arguments.data} on {arguments.host}:{arguments.port}: {error}", _EXIT_CANNOT_LISTEN
        )
    return 0


def _create_project(arguments: argparse.Namespace) -> int:
    from overmind_controlplane.access import make_project
    from overmind_controlplane.plane import open_database
    from overmind_controlplane.refusals import Refused

    try:
        with open_database(arguments.data, arguments.database).write() as session:
            project = make_project(session, arguments.name)
    except Refused as error:
        return _fail(error.detail, _EXIT_REFUSED)
    _show(_project(project) if arguments.json else project.id)
    return 0


def _list_projects(arguments: argparse.Namespace) -> int:
    from sqlalchemy import select

    from overmind_controlplane.plane import open_database
    from overmind_controlplane.record.tables import Project

    with open_database(arguments.data, arguments.database).read() as session:
        records = [
            _project(row) for row in session.scalars(select(Project).order_by(Project.created, Project.name))
        ]
    if arguments.json:
        _show(records)
        return 0
    for record in records:
        print(f"{record['id']}  {record['created'][:19]}Z  {record['name']}")
    return 0


def _create_token(arguments: argparse.Namespace) -> int:
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
        return _fail(error.detail, _EXIT_REFUSED)
    _show({"token": secret, **_token(token, arguments.project[0])} if arguments.json else secret)
    return 0


def _list_tokens(arguments: argparse.Namespace) -> int:
    from sqlalchemy import select

    from overmind_controlplane.plane import open_database
    from overmind_controlplane.record.tables import Project, Token

    listed = select(Token, Project.name).join(Project, Project.id == Token.project_id).order_by(Token.number)
    with open_database(arguments.data, arguments.database).read() as session:
        records = [_token(token, project) for token, project in session.execute(listed)]
    if arguments.json:
        _show(records)
        return 0
    for record in records:
        state = "revoked" if record["revoked_at"] else f"expires {record['expires_at'] or 'never'}"
        print(f"{record['id']}  {record['project']}  {record['role']}  {state}  {record['name']}".rstrip())
    return 0


def _revoke_token(arguments: argparse.Namespace) -> int:
    from overmind_controlplane.access import revoke
    from overmind_controlplane.plane import open_database
    from overmind_controlplane.refusals import Refused

    try:
        with open_database(arguments.data, arguments.database).write() as session:
            token = revoke(session, arguments.id)
    except Refused as error:
        return _fail(error.detail, _EXIT_REFUSED)
    _show(_token(token, None) if arguments.json else f"revoked {token.id}")
    return 0


def _restored(arguments: argparse.Namespace) -> int:
    from overmind_controlplane.jobs.board import Board
    from overmind_controlplane.plane import open_database

    with open_database(arguments.data, arguments.database).write() as session:
        count = Board.fence_off(session)
    _show({"jobs": count} if arguments.json else f"fenced off whoever holds one of {count} jobs from before")
    return 0


def _completion(parser: argparse.ArgumentParser, shell: str) -> int:
    import shtab

    _show(shtab.complete(parser, shell))
    return 0


def _project(project: Project) -> dict[str, Any]:
    return {"id": project.id, "name": project.name, "created": project.created.isoformat()}


def _token(token: Token, project: str | None) -> dict[str, Any]:
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


def _show(what: Any) -> None:
    print(what if isinstance(what, str) else json.dumps(what))


def _fail(message: str, code: int) -> int:
    print(f"overmind-control-plane: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
