"""
Python imports this before any program when its folder is on PYTHONPATH: it freezes threads of the daemon.

FREEZE names a folder. While a file `<thread>=<function>` lies there, that thread stands still from its next call of
a function of that name on; when it does, the file gets a line with the monotonic time.
"""

import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

LOOK_S = 0.05


class Freezer:
    """Looks into the folder in a thread of its own, so that the others pay for a look into a dictionary."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wanted: dict[str, str] = {}
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self._wanted = dict(path.name.split("=") for path in self._folder.iterdir())
            time.sleep(LOOK_S)

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Of each call in each thread that was started since."""
        thread = threading.current_thread().name
        wanted = self._wanted.get(thread)
        if wanted is None or event != "call" or frame.f_code.co_name != wanted:
            return
        over, path = threading.Lock(), self._folder / f"{thread}={wanted}"
        path.write_text(f"{time.monotonic()}\n")
        over.acquire()
        threading.Thread(target=self._let_go, args=[path, over], daemon=True).start()
        over.acquire()

    @staticmethod
    def _let_go(path: Path, over: threading.Lock) -> None:
        while path.exists():
            time.sleep(LOOK_S)
        over.release()


if "FREEZE" in os.environ and "overmind-agent" in sys.orig_argv[1]:
    threading.setprofile(Freezer(Path(os.environ["FREEZE"])))
