"""The command `serve`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from overmind_controlplane.administration.shared import CANNOT_LISTEN, IN_USE, USAGE, add_database, fail

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def add(serve: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Make *serve* the command that runs the server."""
    serve.set_defaults(run=_serve)
    serve.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder that holds everything")
    add_database(serve, environment)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", default=8470, type=int, help="0 for a free one (default: %(default)s)")
    serve.add_argument(
        "--allow-remote", action="store_true", help="allow an address that others can reach; put TLS before it"
    )
    serve.add_argument("--public-url", metavar="URL", help="how clients reach the server, if not by --host")
    _add_limits(serve)
    serve.add_argument("--plain", action="store_true", help="speak only what the published client speaks")
    serve.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))


def _add_limits(serve: argparse.ArgumentParser) -> None:
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


def _wrong(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the *arguments*, None when nothing is."""
    if arguments.host not in _LOOPBACK and not arguments.allow_remote:
        return f"--host {arguments.host} can be reached from elsewhere; add --allow-remote if that is meant"
    if arguments.lease_s <= 0 or arguments.max_blob_bytes <= 0 or not 0 <= arguments.port <= 65535:
        return "--lease-s and --max-blob-bytes are positive, --port is 0 to 65535"
    if not 0 <= arguments.rate_limit < float("inf"):
        return "--rate-limit is a number of calls a second, or 0"
    if arguments.max_waiting_jobs < 0:
        return "--max-waiting-jobs is a number of jobs, or 0"
    return None


def _serve(arguments: argparse.Namespace) -> int:
    if (wrong := _wrong(arguments)) is not None:
        return fail(wrong, USAGE)
    from overmind_controlplane.plane import Settings
    from overmind_controlplane.serving.server import DataInUse, serve

    settings = Settings(
        data=arguments.data,
        database_url=arguments.database,
        lease_s=arguments.lease_s,
        max_blob_bytes=arguments.max_blob_bytes,
        public_url=arguments.public_url,
        allowed_hosts=frozenset(_LOOPBACK) if arguments.host in _LOOPBACK else None,
        rate_per_s=arguments.rate_limit,
        most_waiting=arguments.max_waiting_jobs,
        is_plain=arguments.plain,
    )
    try:
        serve(settings, arguments.host, arguments.port, log_level=arguments.log_level)
    except DataInUse as error:
        return fail(str(error), IN_USE)
    except OSError as error:
        return fail(f"cannot serve {arguments.data} on {arguments.host}:{arguments.port}: {error}", CANNOT_LISTEN)
    return 0
