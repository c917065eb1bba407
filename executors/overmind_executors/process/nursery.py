"""
Forks the child processes of jobs: `python -P -m overmind_executors.process.nursery --channel N --parent PID [--preload TYPE]…`.

A child that is started has to import for a third of a second; one that is forked has it all. The nursery is started
clean, imports, stays a single thread, and reads requests from a socket until that is closed:

```
nursery ─▶ {"preloading": "inference"}, … {"ready": true}   or {"spoiled": "my_type", "why": "it left 3 threads"}, and ends
parent  ─▶ {"environment", "folder", "nice"} with four descriptors: order, log, events, gate
nursery ─▶ {"pid": 4711}                                    or {"refused": "…"}
parent  ─▶ one byte through the gate, when it is ready for that child to begin
```

It forks twice, so that the job's process becomes a child of the parent, which must be a sub-reaper: whoever watches it
waits for it as for any child of its own, and a nursery that dies takes no job with it. What it forks is from its first
moment in an environment of its own, with the job's mark. The nursery never reads an order: no key of a model, and
nothing of the agent's, is ever in its memory; and no other process of the user may look into it.
"""  # noqa: E501 - a drawing

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from overmind_executors import registry
from overmind_executors.process import child, own_environment, own_process

REQUEST_BYTES: Final = 128 * 1024
DESCRIPTORS: Final = 4
_EVENTS, _GATE = 3, 4
_BROKEN: Final = 71


@dataclass(frozen=True)
class Request:
    """One child to be: its environment, its working folder, its priority, and where its four descriptors are."""

    environment: dict[str, str]
    folder: str
    nice: int
    descriptors: tuple[int, int, int, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the channel is closed; returns the exit code."""
    options = _parser().parse_args(arguments)
    if not own_process.die_with(options.parent):
        return 0
    own_process.hide()
    with socket.socket(fileno=options.channel) as channel:
        tell = _teller(channel)
        for job_type in options.preload:
            tell({"preloading": job_type})
            if why := _spoiled_by(job_type):
                tell({"spoiled": job_type, "why": why})
                return 0
        gc.collect()
        gc.freeze()  # the memory of what is there already stays shared with the children
        tell({"ready": True})
        while (request := _next(channel)) is not None:
            tell(_answer(request, options.parent))
    return 0


def _teller(channel: socket.socket) -> Callable[[dict[str, Any]], object]:
    return lambda message: channel.send(json.dumps(message).encode())


def _spoiled_by(job_type: str) -> str | None:
    """
    Import what *job_type* needs; returns why nobody may fork after that.

    A thread that is not forked with the rest may hold a lock for ever, and a descriptor would be shared.
    """
    open_before = _descriptors()
    registry.preload(job_type)
    sys.stdout.flush()
    sys.stderr.flush()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        return f"it left {threads - 1} threads"
    left = _descriptors() - open_before
    return f"it left {len(left)} open descriptors" if left else None


def _descriptors() -> set[int]:
    """Those of the first hundred numbers that are open: the folder in /proc is closed to a hidden process."""
    found = set()
    for number in range(100):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.add(number)
    return found


def _next(channel: socket.socket) -> Request | None:
    """The next request; None when there will be none."""
    raw, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES, DESCRIPTORS)
    if not raw:
        return None
    order, log, events, gate = descriptors
    told = json.loads(raw)
    return Request(told["environment"], told["folder"], told["nice"], (order, log, events, gate))


def _answer(request: Request, parent: int) -> dict[str, Any]:
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        _for_ever(lambda: _between(request, parent, writer))
    os.close(writer)
    for descriptor in request.descriptors:
        os.close(descriptor)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    os.waitpid(between, 0)  # from now on the child is the parent's
    answer: dict[str, Any] = json.loads(said or b'{"refused": "it died before it had forked"}')
    return answer


def _between(request: Request, parent: int, answer: int) -> int:
    """The process in between: it makes itself what the child shall be, forks it, and is gone."""
    own_process.hide(False)
    try:
        own_environment.replace(request.environment)
        os.chdir(request.folder)
    except (OSError, ValueError) as error:
        os.write(answer, json.dumps({"refused": str(error)}).encode())
        return 0
    if os.fork() == 0:
        _for_ever(lambda: _child(request, parent, answer))
    return 0


def _child(request: Request, parent: int, answer: int) -> int:
    os.setsid()
    # Not before: whoever kills the nursery's group must not find this process in it any more.
    os.write(answer, json.dumps({"pid": os.getpid()}).encode())
    os.close(answer)
    _take_descriptors(request.descriptors)
    if not os.read(_GATE, 1):
        return 0  # the parent is gone, or has no use for this child
    os.close(_GATE)
    random.seed()
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed()
    tempfile.tempdir = None
    sys.argv = [child.__file__, "--events-fd", str(_EVENTS), "--parent", str(parent), "--nice", str(request.nice)]
    return child.do_one(events_fd=_EVENTS, parent=parent, nice=request.nice)


def _take_descriptors(descriptors: Sequence[int]) -> None:
    """Put the four where they belong, and close everything else."""
    order, log, events, gate = (os.dup2(d, 100 + n, False) for n, d in enumerate(descriptors))
    for source, target in ((order, 0), (log, 1), (log, 2), (events, _EVENTS), (gate, _GATE)):
        os.dup2(source, target, inheritable=target < _EVENTS)
    os.closerange(_GATE + 1, 256)


def _for_ever(work: Callable[[], int]) -> NoReturn:
    """Never back into the code of the process that was forked."""
    code = _BROKEN
    try:
        code = work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        child.leave(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -P -m overmind_executors.process.nursery", description="Fork the children of jobs."
    )
    parser.add_argument("--channel", type=int, required=True, help="a socket for requests")
    parser.add_argument("--parent", type=int, required=True, help="whose children they will be")
    parser.add_argument("--preload", action="append", default=[], help="a job type")
    return parser


if __name__ == "__main__":
    child.leave(main())
