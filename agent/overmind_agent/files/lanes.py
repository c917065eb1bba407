"""Several files at a time, each over a connection of its own."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Final

from overmind_agent.jobs import ResultFile
from overmind_agent.ports import Clock, ControlPlane

LANES: Final = 4
TICK_S: Final = 1.0

Upload = Callable[[ControlPlane, ResultFile], object]


class Lanes:
    """
    Uploads for one slot.

    Args:
        make: another control plane, for a lane; each is used by one thread at a time, and kept for the next job.
        clock: asked for the time while the slot waits, which is its sign of life.
        number: how many files go at a time.
    """

    def __init__(self, make: Callable[[], ControlPlane], clock: Clock, *, number: int = LANES) -> None:
        self._make = make
        self._clock = clock
        self._number = number
        self._idle: queue.SimpleQueue[ControlPlane] = queue.SimpleQueue()

    def each(self, files: Sequence[ResultFile], upload: Upload) -> Iterator[ResultFile]:
        """
        Call *upload* for every file; yields each as soon as it is done: those that are done at one moment in the
        order of *files*.

        Raises:
            Exception: what *upload* raised first. No other file is begun then; those under way come to their end.
        """
        if not files:
            return
        with ThreadPoolExecutor(min(self._number, len(files)), thread_name_prefix="upload") as pool:
            waiting = {pool.submit(self._one, upload, file): file for file in files}
            try:
                while waiting:
                    done, _ = wait(waiting, timeout=TICK_S, return_when=FIRST_COMPLETED)
                    self._clock.now_s()
                    for future in [future for future in waiting if future in done]:
                        file = waiting.pop(future)
                        future.result()
                        yield file
            finally:
                for future in waiting:
                    future.cancel()

    def _one(self, upload: Upload, file: ResultFile) -> None:
        try:
            plane = self._idle.get_nowait()
        except queue.Empty:
            plane = self._make()
        try:
            upload(plane, file)
        finally:
            self._idle.put(plane)
