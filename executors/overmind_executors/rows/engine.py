"""Many rows at once, results in order, memory flat: the one loop that all job types share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from overmind_executors.contract import Stop, WorkStopped

RowT = TypeVar("RowT")
MadeT = TypeVar("MadeT")

STOP_SEEN_WITHIN_S: Final = 0.05
# What has been paid for may still end within this time after the wish to stop.
STOP_GRACE_S: Final = 0.4
_END: Final = object()


def in_order(
    rows: Iterable[RowT], work: Callable[[RowT], MadeT], *, pool: Executor, window: int, stop: Stop
) -> Iterator[MadeT]:
    """
    `work(row)` for each of *rows*, in their order.

    At most *window* rows are read but not yet given out: a slow row holds back its followers' results, and
    reading ahead ends when the window is full.

    Args:
        work: called on the pool's workers; a row that fails is a value, an exception ends it all.
        pool: whose size is the number of rows at work at once.
        window: at least that size; a few times as many keeps the pool busy behind a slow row.

    Raises:
        WorkStopped: *stop* was set. Rows at work are left alone, the others are taken back.
    """
    source = iter(rows)
    pending: deque[Future[MadeT]] = deque()
    try:
        while True:
            while len(pending) < window and (row := next(source, _END)) is not _END:
                pending.append(pool.submit(work, row))  # type: ignore[arg-type]  # never _END here
            if not pending:
                return
            yield _result(pending.popleft(), stop)
    finally:
        for future in pending:
            future.cancel()


def in_threads(
    rows: Iterable[RowT],
    work: Callable[[RowT], MadeT],
    *,
    workers: int,
    ahead: int,
    stop: Stop,
    cut_after: Callable[[float], object],
) -> Generator[MadeT, None, None]:
    """
    `in_order` on *workers* threads of its own, *ahead* rows read for each. Whoever leaves it early closes it.

    Args:
        cut_after: called when *stop* was set, with the seconds that rows at work have left.

    Raises:
        WorkStopped: *stop* was set; no row is at work any more.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="row") as pool:
        try:
            yield from in_order(rows, work, pool=pool, window=workers * ahead, stop=stop)
        except WorkStopped:
            pool.shutdown(wait=False, cancel_futures=True)
            cut_after(STOP_GRACE_S)
            raise


def _result(future: Future[MadeT], stop: Stop) -> MadeT:
    while not future.done():
        if stop.is_set():
            break
        wait((future,), timeout=STOP_SEEN_WITHIN_S)
    if stop.is_set():
        future.cancel()
        raise WorkStopped("asked to stop")
    return future.result()
