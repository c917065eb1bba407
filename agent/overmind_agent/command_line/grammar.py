"""The grammar of the command line. What a command does is imported when it is asked for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from overmind_agent import __version__
from overmind_agent.command_line.exit_codes import USAGE
from overmind_agent.control.grammar import add_commands

EXAMPLES: Final = """examples:
  overmind-agent check                          is this host ready to work?
  overmind-agent run                            work until told to stop
  overmind-agent support-bundle                 one file for whoever helps
  overmind-agent health --ready                 does the daemon on this host take jobs?
  overmind-agent run --once --wait 60           wait a minute for a job, run it, and exit
  overmind-agent run --once | tail -n 1         the last line is a JSON summary
  overmind-agent run --job 5d1b1f3a-…           run this job and no other
  overmind-agent run --max-jobs 100 --idle-timeout 300
                                                a hundred jobs, or until there was none for five minutes

configuration: --config FILE, else $OVERMIND_AGENT_CONFIG, else /etc/overmind-agent/agent.toml;
stronger are environment variables (OVERMIND_API_URL, OVERMIND_API_KEY, OVERMIND_AGENT_SECTION__KEY), then flags.

exit codes: 0 done or nothing to do, 1 the job failed or was canceled (--once), 64 usage, 69 control plane out of
reach, 70 a bug, 73 state folder in use or unusable, 77 credentials refused, 78 configuration wrong"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}; try {self.prog} --help\n")


def _place(*, default: str | None) -> _Parser:
    """Where the configuration and the journal are; *default* for what is not said."""
    place = _Parser(add_help=False)
    place.add_argument("--config", type=Path, metavar="FILE", help="the configuration file", default=default)
    place.add_argument(
        "--state-dir", dest="agent.state_dir", metavar="DIR", help="where the journal is kept", default=default
    )
    return place


def parser() -> argparse.ArgumentParser:
    """The whole of it; what is read by it says its `command`, and which `parser` read it."""
    top = _Parser(
        prog="overmind-agent",
        description="Pull jobs from a control plane, run them on this host, upload what comes out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"overmind-agent {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    place = _place(default=None)
    shared = _Parser(add_help=False, parents=[place])
    shared.add_argument("--url", dest="control_plane.url", metavar="URL", help="address of the control plane")
    shared.add_argument(
        "--token-file", dest="control_plane.token_file", metavar="FILE", help="file that holds the agent's token"
    )
    _add_run(_command(commands, "run", "work on jobs", parents=[shared]))
    check = _command(commands, "check", "is this host ready to work?", parents=[shared])
    check.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _add_bundle(commands, shared)
    _add_health(commands)
    add_commands(commands, [place], [_place(default=argparse.SUPPRESS)])
    complete = _command(commands, "completion", "a script for the shell that completes commands and options")
    complete.add_argument("shell", choices=["bash", "zsh", "fish"])
    _command(commands, "version", "print the version")
    return top


def _command(commands: Any, name: str, about: str, **more: Any) -> argparse.ArgumentParser:
    """A command, and in its own help *about* as a sentence."""
    sentence = about[:1].upper() + about[1:] + ("" if about.endswith("?") else ".")
    made: argparse.ArgumentParser = commands.add_parser(name, help=about, **{"description": sentence, **more})
    made.set_defaults(parser=made)
    return made


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--once", action="store_true", help="at most one job, then exit; prints a JSON summary")
    run.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="with --once or --job: how long to wait for it (0)",
    )
    run.add_argument("--job", type=_id, metavar="ID", help="this one job, then exit; prints a JSON summary")
    run.add_argument("--max-jobs", type=_count, metavar="N", help="exit after so many jobs")
    run.add_argument(
        "--idle-timeout", type=_seconds, metavar="SECONDS", help="exit when no job has run for so long"
    )
    run.add_argument(
        "--max-uptime", type=_seconds, metavar="SECONDS", help="take no job after so long; present ones may end"
    )
    run.add_argument("--slots", dest="agent.slots", type=int, metavar="N", help="how many jobs at a time")
    run.add_argument("--log-level", dest="logging.level", choices=["debug", "info", "warning", "error"])
    run.add_argument("--log-format", dest="logging.format", choices=["auto", "json", "pretty"])


def _add_bundle(commands: Any, shared: argparse.ArgumentParser) -> None:
    about = "one file for whoever helps: checks, configuration, state, last events; no secrets, no rows"
    bundle = _command(commands, "support-bundle", about, parents=[shared])
    bundle.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a new file (overmind-agent-support-<time>.tar.gz)"
    )
    bundle.add_argument("--json", action="store_true", help="one JSON object, for scripts")


def _add_health(commands: Any) -> None:
    description = "Does the daemon on this host live? Prints one line of JSON; exits with 0 or 1."
    health = _command(commands, "health", "does the daemon on this host live?", description=description)
    health.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    health.add_argument("--state-dir", metavar="DIR", help="where the daemon keeps its journal")
    health.add_argument("--ready", action="store_true", help="would it take a job now?")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1, not {text!r}")
    return number


def _id(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must be the id of a job, not an empty word")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}")
    return seconds
