"""What these commands have in common: where the store is, how they say something, and how they end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

REFUSED: Final = 1
USAGE: Final = 64
CANNOT_LISTEN: Final = 69
UNREAD: Final = 141  # as a shell says of a program that SIGPIPE ended
IN_USE: Final = 73
CONFIG: Final = 78
"""Exit codes."""

DATABASE_VARIABLE: Final = "OVERMIND_DATABASE_URL"

Run = Callable[[argparse.Namespace], int]


def add_database(command: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Add the option that says where the record is."""
    command.add_argument(
        "--database",
        default=environment.get(DATABASE_VARIABLE) or None,
        metavar="URL",
        help=f"postgresql+psycopg://user:secret@host/name (default: ${DATABASE_VARIABLE}, else SQLite in --data)",
    )


def add_store(command: argparse.ArgumentParser, environment: Mapping[str, str], run: Run) -> None:
    """Make *command* one that does *run* on the store of a server, which may be running."""
    command.set_defaults(run=run)
    command.add_argument("--data", required=True, type=Path, metavar="DIR", help="the server's data folder")
    add_database(command, environment)
    command.add_argument("--json", action="store_true", help="print records as JSON")


def show(what: Any) -> None:
    """Print a text as it is, anything else as JSON."""
    print(what if isinstance(what, str) else json.dumps(what))


def fail(message: str, code: int) -> int:
    """Say why there is nothing more to show; returns *code*."""
    print(f"overmind-control-plane: {message}", file=sys.stderr)
    return code
