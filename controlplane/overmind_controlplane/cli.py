"""The command `overmind-control-plane`. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from overmind_controlplane.administration import projects, serve, tokens
from overmind_controlplane.administration.shared import CANNOT_LISTEN, CONFIG, UNREAD, USAGE, add_store, fail, show
from overmind_controlplane.command_line import grammar as jobs

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Usage errors are 64 here, as in sysexits.h."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Returns:
        Its exit code: 0 done, 1 refused, 64 usage, 69 no such address or no database, 73 data folder in use,
        78 the database was used by a newer version, 141 nobody read its output to the end.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        return fail("the control plane needs more: pip install 'overmind-agent[controlplane]'", CONFIG)
    except BrokenPipeError:  # `… | head`: whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:
        if (told := _about_database(error)) is None:
            raise
        return fail(*told)
    return code


def _about_database(error: Exception) -> tuple[str, int] | None:
    """What to say, and the exit code, of an error that is about the database; nothing of its URL is in either."""
    from sqlalchemy.exc import SQLAlchemyError

    from overmind_controlplane.record.database_url import WrongDatabaseUrl
    from overmind_controlplane.record.migrating import NewerSchema

    if isinstance(error, WrongDatabaseUrl):
        return str(error), USAGE
    if isinstance(error, NewerSchema):
        return str(error), CONFIG
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        return "PostgreSQL needs a driver: pip install 'overmind-agent[postgres]'", USAGE
    if isinstance(error, SQLAlchemyError):
        return (
            f"the database cannot be used: {getattr(error, 'orig', None) or type(error).__name__}",
            CANNOT_LISTEN,
        )
    return None


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="overmind-control-plane",
        description="A control plane for agents: holds jobs, hands them out, keeps their results.",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def group(name: str, about: str) -> Any:
        return commands.add_parser(name, help=about).add_subparsers(required=True, metavar="COMMAND")

    serve.add(
        commands.add_parser("serve", help="run the server", epilog=_EXAMPLES, formatter_class=raw), os.environ
    )
    projects.add(group("project", "make and list projects"), os.environ)
    tokens.add(group("token", "make, list and revoke tokens"), os.environ)
    restored = commands.add_parser("restored", help="say that a backup of the database was put back")
    add_store(restored, os.environ, projects.restored)
    jobs.add(commands, os.environ)
    completion = commands.add_parser("completion", help="a script for the shell that completes commands")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=lambda arguments: _completion(parser, arguments.shell))
    return parser


def _completion(parser: argparse.ArgumentParser, shell: str) -> int:
    import shtab

    show(shtab.complete(parser, shell))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
