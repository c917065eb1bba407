"""The grammar of the commands for the person who runs the host. What they do is in `commands`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

JOB: Final = "the job's id, or so much of its beginning that no other job here begins so"
FOR_SCRIPTS: Final = "one JSON object, for scripts"

# Name, what --help says of it, and the function of `commands` that does it.
PLAIN: Final = (
    ("status", "how the agent on this host is", "status"),
    ("jobs", "the jobs that it holds", "jobs"),
    ("pause", "take no new job until told to resume, also after a restart", "pause"),
    ("resume", "take jobs again", "resume"),
    ("drain", "finish the present jobs, then end, as SIGTERM does", "drain"),
    ("reload", "read the configuration anew, as SIGHUP does", "reload"),
)


def add_commands(
    commands: Any, place: Sequence[argparse.ArgumentParser], place_within: Sequence[argparse.ArgumentParser]
) -> None:
    """
    Add them to *commands*, which is what `add_subparsers` gave.

    Args:
        place: parents that bring the flags which say where the state folder is.
        place_within: the same for a command of a command: a flag that is not given leaves what was said before.
    """

    def add(to: Any, name: str, about: str, function: str) -> argparse.ArgumentParser:
        """A command; the options that come out of it name the function that does it."""
        made: argparse.ArgumentParser = to.add_parser(
            name,
            parents=place if to is commands else place_within,
            help=about,
            description=f"{about[:1].upper()}{about[1:]}.",
        )
        made.set_defaults(parser=made, function=function)
        made.add_argument("--json", action="store_true", help=FOR_SCRIPTS)
        return made

    for name, about, function in PLAIN:
        add(commands, name, about, function)
    cancel = add(commands, "cancel", "end a job here; its submitter sees it canceled", "cancel")
    cancel.add_argument("job", metavar="JOB", help=JOB)

    logs = commands.add_parser("logs", parents=place, help="what a job wrote", description="What a job wrote.")
    logs.set_defaults(parser=logs, function="logs")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    logs.add_argument("-n", "--lines", type=_lines, metavar="N", help="only the last N lines")
    logs.add_argument("job", metavar="JOB", help=JOB)

    outbox = commands.add_parser(
        "outbox",
        parents=place,
        help="statuses on their way",
        description="Statuses on their way to the control plane.",
    )
    outbox.set_defaults(parser=outbox)
    of_outbox = outbox.add_subparsers(dest="outbox_command", metavar="COMMAND", required=True)
    add(of_outbox, "list", "what waits to be sent, and what is parked and why", "outbox_list")
    retry = add(of_outbox, "retry", "send what is parked", "outbox_retry")
    retry.add_argument("positions", nargs="*", type=int, metavar="ID", help="as outbox list shows it")
    retry.add_argument("--all", action="store_true", help="all that is parked")

    add(commands, "capabilities", "what this host offers to jobs", "capabilities")
    config = commands.add_parser(
        "config", parents=place, help="the configuration", description="The configuration."
    )
    config.set_defaults(parser=config)
    of_config = config.add_subparsers(dest="config_command", metavar="COMMAND", required=True)
    show = add(of_config, "show", "every key with its value, secrets masked", "config_show")
    show.add_argument("--origin", action="store_true", help="and where each value comes from")
    add(of_config, "check", "whether it is right; names every problem", "config_check")


def _lines(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be a number from 0, not {text!r}")
    return number
