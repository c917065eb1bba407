"""
What a program in bubblewrap sees of the machine, as words of its command line.

```
/usr and the links to it     read only    the system
our interpreter, packages    read only    at their own places
what `reads` names           read only    at its own place
/code, …                     read only    the program's own folder
/tmp                         its own      memory, of limited size; also its home and its working folder
/proc, /dev                  its own      no process but its own, no device but null, zero, random and the like
```

Nothing else is there: no home, no /etc but a handful of files, no /run and so no socket of anybody, no network but
a loopback device of its own. The user has no capabilities, and can make no further namespaces.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from overmind_executors.contract import ExecutionFailed
from overmind_executors.sandbox.levels import Sandbox

UNAVAILABLE: Final = "sandbox_unavailable"
TMP: Final = Path("/tmp")  # noqa: S108 - its own, in memory
_USR: Final = Path("/usr")
_SHM_BYTES: Final = 64 << 20
_UID: Final = "1000"
_OLDEST: Final = "bubblewrap 0.8 or later"
_APART: Final = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL", "--uid", _UID, "--gid", _UID),
)
# Of the system's settings, those without which programs do not start or show the wrong time.
_SETTINGS: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/ssl/certs", "/etc/mime.types")
# Ours in place of the host's, which name its users and its neighbours.
_OWN_SETTINGS: Final[Mapping[str, str]] = {
    "passwd": f"program:x:{_UID}:{_UID}::/tmp:/bin/sh\n",
    "group": f"program:x:{_UID}:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


class NoBubblewrap(Exception):
    """There is none. The message says what to install."""


@dataclass(frozen=True)
class View:
    """
    What one program sees beside the system.

    Attributes:
        shown: folders and files of the host, by where the program finds them; read only.
        writable: folders of the host that it may write to, at their own places.
        folder: where it starts.
    """

    shown: Mapping[Path, Path] = field(default_factory=dict)
    writable: Sequence[Path] = ()
    folder: Path = TMP


def words(view: View, sandbox: Sandbox, own: Path) -> list[str]:
    """
    The command line up to the program.

    Args:
        own: a folder of the job's; files of ours are put there. Nothing else of the folder above it may be seen.

    Raises:
        NoBubblewrap: it is not installed.
        ExecutionFailed: what programs may read has the job's folder in it.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise NoBubblewrap(f"bwrap is not installed; install {_OLDEST}")
    readable = [*_interpreter(), *(path.resolve() for path in sandbox.reads)]
    if open_to_all := [path for path in readable if own.resolve().is_relative_to(path)]:
        raise ExecutionFailed(
            f"programs may read {open_to_all[0]}, and the agent's folder lies in it; put agent.state_dir elsewhere",
            reason=UNAVAILABLE,
        )
    line = [found, *_APART, *_system(), *_settings(own)]
    # Read only, for root's own files in it, such as the kernel's settings, ask for no capability.
    line += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    line += ["--size", str(min(_SHM_BYTES, sandbox.disk_bytes)), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 - its own, in memory
    line += ["--size", str(sandbox.disk_bytes), "--tmpfs", str(TMP)]
    at_their_places = _outermost(readable)
    for path in at_their_places:
        line += ["--ro-bind-try", str(path), str(path)]
    for inside, path in view.shown.items():
        if not (inside == path and any(path.is_relative_to(other) for other in (_USR, *at_their_places))):
            line += ["--ro-bind", str(path.resolve()), str(inside)]
    for path in view.writable:
        line += ["--bind", str(path), str(path)]
    line += ["--remount-ro", "/", "--chdir", str(view.folder), "--setenv", "HOME", str(TMP)]
    return [*line, "--setenv", "TMPDIR", str(TMP), "--setenv", "PYTHONDONTWRITEBYTECODE", "1"]


def _system() -> Iterator[str]:
    """/usr, and the old folders beside it, which are mostly links into it."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))


def _settings(own: Path) -> Iterator[str]:
    for path in _SETTINGS:
        yield from ("--ro-bind-try", path, path)
    own.mkdir(parents=True, exist_ok=True)
    for name, content in _OWN_SETTINGS.items():
        ours = own / name
        ours.write_text(content, encoding="utf-8")
        yield from ("--ro-bind", str(ours), f"/etc/{name}")


def _interpreter() -> set[Path]:
    """Where this Python and all that it can import lie."""
    places = {Path(place) for place in (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path) if place}
    return {place for place in places if place.is_absolute() and place != Path("/") and place.exists()}


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in another one, or in /usr."""
    shown: list[Path] = [_USR]
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in shown):
            shown.append(path)
    return shown[1:]
