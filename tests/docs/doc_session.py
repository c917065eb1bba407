"""
A reader's shell: one after the other, in a folder and a network of its own.

The network has nothing but a loopback device, so that a page may name the ports it likes, and nothing leaves it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final

DEADLINE_S: Final = 40.0
HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
# What a reader has in a checkout.
CHECKOUT: Final = ("examples", "config", "systemd")
_LO_UP: Final = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x41))"  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
)


def _unshare() -> str:
    found = shutil.which("unshare")
    assert found, "unshare is missing; on Debian: apt-get install util-linux"
    return found


class Session:
    """
    A bash that is told its commands.

    Args:
        folder: where it works.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in CHECKOUT:
            (folder / name).symlink_to(ROOT / name)
        beside = Path(sys.executable).parent
        environment = {
            "PATH": f"{HERE / 'bin'}:{beside}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
        }
        self._shell = subprocess.Popen(
            [_unshare(), "--user", "--map-root-user", "--net", "bash", "--norc", "-s"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self.run(f'{sys.executable} -c "{_LO_UP}"')

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that was started."""
        os.killpg(self._shell.pid, signal.SIGTERM)
        try:
            self._shell.communicate(timeout=15)
        finally:
            os.killpg(self._shell.pid, signal.SIGKILL) if self._shell.poll() is None else None

    def write(self, name: str, text: str) -> None:
        """A file as a page shows it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)

    def run(self, command: str) -> str:
        """What *command* prints, on both of its outputs. It has to go well."""
        mark = f"end of {uuid.uuid4()}"
        shell = self._shell
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(f'{command}\necho "\n{mark} $?"\n')
        shell.stdin.flush()
        alarm = threading.Timer(DEADLINE_S, os.killpg, (shell.pid, signal.SIGKILL))
        alarm.start()
        printed = ""
        for line in shell.stdout:
            if line.startswith(mark):
                code = line.removeprefix(mark).strip()
                break
            printed += line
        else:
            raise AssertionError(f"the shell ended, or {DEADLINE_S:g} s went by, in {command!r}: {printed}")
        alarm.cancel()
        assert "0" == code, f"{command!r} ended with {code}: {printed}"
        return printed.rstrip("\n")

    def serve(self, command: str) -> str:
        """Start *command* behind the others, in the place of its like; its first line, which is that it listens."""
        words = command.partition("#")[0].partition(">")[0].rstrip(" &")
        name = words.split()[0].replace("-", "_")
        self.run(f"test -z ${name} || {{ kill ${name}; wait ${name} || true; }}")
        self.run(f"{words} > {name}.log 2>&1 & {name}=$!")
        self.run(f"until grep -q '^listening on' {name}.log || ! kill -0 ${name}; do sleep 0.05; done")
        return self.run(f"head -n 1 {name}.log")
