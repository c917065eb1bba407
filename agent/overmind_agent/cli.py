"""
The command line. Handlers are imported inside the commands, so that `--help` is quick.

Exit codes: 0 done or nothing to do, 1 the job failed or was canceled (`--once`), 64 usage, 69 control plane out of
reach, 70 a bug, 73 state folder in use or unusable, 77 credentials refused, 78 configuration wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from overmind_agent import __version__
from overmind_agent.control.grammar import add_commands

OK, JOB_FAILED, USAGE, UNAVAILABLE, BUG, CANT_CREATE, NO_PERMISSION, CONFIG = 0, 1, 64, 69, 70, 73, 77, 78

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


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = _Parser(
        prog="overmind-agent",
        description="Pull jobs from a control plane, run them on this host, upload what comes out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"overmind-agent {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    place = _Parser(add_help=False)
    place.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    place.add_argument("--state-dir", dest="agent.state_dir", metavar="DIR", help="where the journal is kept")
    shared = _Parser(add_help=False, parents=[place])
    shared.add_argument("--url", dest="control_plane.url", metavar="URL", help="address of the control plane")
    shared.add_argument(
        "--token-file", dest="control_plane.token_file", metavar="FILE", help="file that holds the agent's token"
    )

    run = commands.add_parser("run", parents=[shared], help="work on jobs", description="Work on jobs.")
    run.set_defaults(parser=run)
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

    check = commands.add_parser(
        "check", parents=[shared], help="is this host ready to work?", description="Is this host ready to work?"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    check.set_defaults(parser=check)
    bundle = commands.add_parser(
        "support-bundle",
        parents=[shared],
        help="one file for whoever helps: checks, configuration, state, last events; no secrets, no rows",
        description="One file for whoever helps: checks, configuration, state, last events; no secrets, no rows.",
    )
    bundle.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a new file (overmind-agent-support-<time>.tar.gz)"
    )
    bundle.add_argument("--json", action="store_true", help="one JSON object, for scripts")
    bundle.set_defaults(parser=bundle)
    health = commands.add_parser(
        "health",
        help="does the daemon on this host live?",
        description="Does the daemon on this host live? Prints one line of JSON; exits with 0 or 1.",
    )
    health.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    health.add_argument("--state-dir", metavar="DIR", help="where the daemon keeps its journal")
    health.add_argument("--ready", action="store_true", help="would it take a job now?")
    health.set_defaults(parser=health)
    add_commands(commands, [place])
    complete = commands.add_parser(
        "completion",
        help="a script for the shell that completes commands and options",
        description="A script for the shell that completes commands and options.",
    )
    complete.add_argument("shell", choices=["bash", "zsh", "fish"])
    complete.set_defaults(parser=complete)
    version = commands.add_parser("version", help="print the version", description="Print the version.")
    version.set_defaults(parser=version)
    return top


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    grammar = parser()
    options, unknown = grammar.parse_known_args(arguments)
    if unknown:  # said with the usage of the command that does not know them
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command == "version":
        print(f"overmind-agent {__version__}")
        return OK
    if options.command == "completion":
        from overmind_agent.command_line.completion import script

        print(script(grammar, options.shell))
        return OK
    if hasattr(options, "function"):
        from overmind_agent.control.commands import run as run_control

        return run_control(options)
    if options.command == "health":
        from overmind_agent.telemetry.health_command import health

        return health(options.state_dir, config=options.config, needs_ready=options.ready)
    flags = {name: value for name, value in vars(options).items() if "." in name}
    if options.command == "check":
        from overmind_agent.command_line.check import check

        return check(flags, config=options.config, as_json=options.json)
    if options.command == "support-bundle":
        from overmind_agent.command_line.support_bundle import support_bundle

        return support_bundle(flags, config=options.config, output=options.output, as_json=options.json)
    is_single = options.once or options.job is not None
    bounds = (options.max_jobs, options.idle_timeout, options.max_uptime)
    is_bounded = any(bound is not None for bound in bounds)
    if options.wait and not is_single:
        options.parser.error("--wait needs --once or --job")
    if is_single and is_bounded:
        options.parser.error(
            "--once and --job run one job; --max-jobs, --idle-timeout and --max-uptime run several"
        )
    from overmind_agent.command_line.run import run
    from overmind_agent.patience import Bounds

    return run(
        flags,
        config=options.config,
        wait_s=options.wait if is_single else None,
        job_id=options.job,
        bounds=Bounds(*bounds) if is_bounded else None,
    )


if __name__ == "__main__":
    sys.exit(main())
