"""
The command line. Handlers are imported inside the commands, so that `--help` is quick.

Exit codes: 0 done or nothing to do, 1 the job failed or was canceled (`--once`), 64 usage, 69 control plane out of
reach, 70 a bug, 73 state folder in use or unusable, 77 credentials refused, 78 configuration wrong,
141 nobody read on.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from overmind_agent import __version__
from overmind_agent.command_line.exit_codes import OK, UNREAD
from overmind_agent.command_line.grammar import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options, unknown = parser().parse_known_args(arguments)
    if unknown:  # said with the usage of the command that does not know them
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if hasattr(options, "function"):
        from overmind_agent.control.commands import run as run_control

        return run_control(options)
    if options.command == "run":
        return _run(options)
    try:
        code = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`: whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return code


def _run(options: Namespace) -> int:
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
        _flags(options),
        config=options.config,
        wait_s=options.wait if is_single else None,
        job_id=options.job,
        bounds=Bounds(*bounds) if is_bounded else None,
    )


def _check(options: Namespace) -> int:
    from overmind_agent.command_line.check import check

    return check(_flags(options), config=options.config, as_json=options.json)


def _support_bundle(options: Namespace) -> int:
    from overmind_agent.command_line.support_bundle import support_bundle

    return support_bundle(_flags(options), config=options.config, output=options.output, as_json=options.json)


def _health(options: Namespace) -> int:
    from overmind_agent.telemetry.health_command import health

    return health(options.state_dir, config=options.config, needs_ready=options.ready)


def _completion(options: Namespace) -> int:
    from overmind_agent.command_line.completion import script

    print(script(parser(), options.shell))
    return OK


def _version(_options: Namespace) -> int:
    print(f"overmind-agent {__version__}")
    return OK


_COMMANDS: Final[Mapping[str, Callable[[Namespace], int]]] = {
    "check": _check,
    "support-bundle": _support_bundle,
    "health": _health,
    "completion": _completion,
    "version": _version,
}


def _flags(options: Namespace) -> dict[str, Any]:
    """The settings that were given on the command line, by their full names."""
    return {name: value for name, value in vars(options).items() if "." in name}


if __name__ == "__main__":
    sys.exit(main())
