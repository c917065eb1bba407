"""The grammar of the `job` commands. What they need is imported when one of them runs."""

from __future__ import annotations

import argparse
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

DEFAULT_URL: Final = "http://127.0.0.1:8470"
URL_VARIABLE: Final = "OVERMIND_API_URL"
TOKEN_VARIABLE: Final = "OVERMIND_API_KEY"  # noqa: S105 - the variable's name
_CONFIG: Final = 78

EXAMPLES: Final = """\
examples:
  overmind-control-plane job submit --type inference --parameters task.json --input rows.jsonl --wait
  overmind-control-plane job submit --type inference --parameters task.json --sign-with release.key
  overmind-control-plane job list --status running
  overmind-control-plane job show ID --json
  overmind-control-plane job watch ID                      a bar on a terminal, JSON lines in a pipe
  overmind-control-plane job files ID results/             downloads and verifies what the job made
  overmind-control-plane job cancel ID

the control plane: --url, else $OVERMIND_API_URL, else http://127.0.0.1:8470
the token (role submit or admin): --token-file, else $OVERMIND_API_KEY

exit codes: 0 done, 1 refused, or the job that was waited for failed or was canceled, 64 usage, 69 control plane out
of reach, 77 credentials refused, 78 no token
"""


def add(commands: Any, environment: Mapping[str, str]) -> None:
    """Add `job` and its commands to those of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    job = commands.add_parser(
        "job", help="submit, watch and cancel jobs; get their files", epilog=EXAMPLES, formatter_class=raw
    )
    named = job.add_subparsers(required=True, metavar="COMMAND")
    parsers = {
        name: named.add_parser(name, help=told, epilog=EXAMPLES, formatter_class=raw)
        for name, told in _HELP.items()
    }
    for name, parser in parsers.items():
        parser.set_defaults(run=_runner(name, environment))
        parser.add_argument(
            "--url", metavar="URL", help=f"of the control plane (default: ${URL_VARIABLE}, {DEFAULT_URL})"
        )
        parser.add_argument(
            "--token-file", type=Path, metavar="FILE", help=f"default: the token in ${TOKEN_VARIABLE}"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")
        if name not in ("submit", "list"):
            parser.add_argument("id", metavar="ID", help="of the job")
    _add_own(parsers)


_HELP: Final = {
    "submit": "make a job; prints its id",
    "list": "the newest jobs",
    "show": "all of one job",
    "watch": "a job's status and progress until it ends",
    "cancel": "end a job",
    "files": "download what a job made, and verify it",
}


def _add_own(parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    submit = parsers["submit"]
    submit.add_argument("--type", required=True, metavar="TYPE", help="such as inference, or a registered function")
    submit.add_argument("--parameters", type=Path, metavar="FILE", help="a JSON object; - for standard input")
    submit.add_argument(
        "--input", type=Path, metavar="FILE", help="the file that the job works on, such as its rows"
    )
    submit.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="WORD",
        help="only for hosts that have it in agent.labels, such as gpu; may be said several times",
    )
    submit.add_argument(
        "--priority", type=int, default=0, metavar="N", help="-1000 to 1000, the highest first (default: 0)"
    )
    submit.add_argument(
        "--sign-with", type=Path, metavar="KEYFILE", help="sign the job: a private key in PEM, or a shared secret"
    )
    submit.add_argument(
        "--key-name", metavar="NAME", help="as hosts know that key (default: KEYFILE's name without its ending)"
    )
    submit.add_argument(
        "--sign-days",
        type=_days,
        default=7.0,
        metavar="N",
        help="for how long the job may be begun (default: %(default)g)",
    )
    submit.add_argument("--wait", action="store_true", help="watch the job until it ends")
    listing = parsers["list"]
    listing.add_argument("--status", metavar="WORD", help="one of the ten names or the five words, such as running")
    listing.add_argument("--type", metavar="TYPE")
    listing.add_argument("--limit", type=_count, default=20, metavar="N", help="default: %(default)s")
    files = parsers["files"]
    files.add_argument("folder", type=Path, metavar="DIR", help="made if need be")
    files.add_argument("--force", action="store_true", help="write over files that are there")


def _days(told: str) -> float:
    try:
        days = float(told)
    except ValueError:
        days = 0.0
    if not 0 < days <= 3650:
        raise argparse.ArgumentTypeError(f"a number of days, up to 3650 (got {told[:20]!r})")
    return days


def _count(told: str) -> int:
    if not told.isdigit() or int(told) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 (got {told[:20]!r})")
    return int(told)


def _runner(name: str, environment: Mapping[str, str]) -> Any:
    def run(arguments: argparse.Namespace) -> int:
        try:
            token = _token(arguments.token_file, environment)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"overmind-control-plane: {error}\n")
            return _CONFIG
        from overmind_controlplane.command_line import commands as job_commands

        command = getattr(job_commands, "list_jobs" if name == "list" else name)
        return job_commands.run(
            command, arguments.url or environment.get(URL_VARIABLE) or DEFAULT_URL, token, arguments
        )

    return run


def _token(path: Path | None, environment: Mapping[str, str]) -> str:
    """
    Raises:
        OSError: the file cannot be read.
        ValueError: there is no token, or others may read it.
    """
    if path is not None and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise ValueError(f"{path} is open to other users (mode {mode:04o}); run chmod 600 {path}")
    token = (path.read_text(encoding="utf-8") if path else environment.get(TOKEN_VARIABLE, "")).strip()
    if not token or not token.isascii() or not token.isprintable():
        place = str(path) if path else f"--token-file is not given, and ${TOKEN_VARIABLE}"
        raise ValueError(
            f"{place} holds no token; make one with: "
            "overmind-control-plane token create --data DIR --project NAME --role submit"
        )
    return token
