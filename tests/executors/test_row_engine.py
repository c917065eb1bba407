"""The loop over rows: in order, bounded, stoppable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from overmind_executors.contract import WorkStopped
from overmind_executors.rows.engine import in_order
from overmind_executors.stopping import StopFlag


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def test_results_come_in_the_order_of_the_rows(pool: ThreadPoolExecutor) -> None:
    """The first row is the slowest: it waits until three others are done."""
    three_done = threading.Semaphore(0)

    def work(row: int) -> int:
        if row == 0:
            assert all(three_done.acquire(timeout=5) for _ in range(3))
        else:
            three_done.release()
        return row * 10

    made = list(in_order(range(20), work, pool=pool, window=8, stop=StopFlag()))

    assert [row * 10 for row in range(20)] == made


def test_no_more_rows_are_read_than_the_window_holds(pool: ThreadPoolExecutor) -> None:
    read = 0

    def rows() -> Iterator[int]:
        nonlocal read
        for row in range(1000):
            read += 1
            yield row

    most_ahead = 0
    for given_out, _ in enumerate(in_order(rows(), str, pool=pool, window=8, stop=StopFlag()), start=1):
        most_ahead = max(most_ahead, read - given_out)

    assert 1000 == read
    assert most_ahead <= 8


def test_a_stop_ends_the_loop_though_a_row_hangs(pool: ThreadPoolExecutor) -> None:
    stop, release = StopFlag(), threading.Event()
    begun: list[int] = []

    def work(row: int) -> None:
        begun.append(row)
        stop.set()
        release.wait(10)

    with pytest.raises(WorkStopped):
        list(in_order(range(100), work, pool=pool, window=50, stop=stop))
    release.set()
    pool.shutdown()

    assert len(begun) <= 4, "rows that had not begun never began"


def test_an_exception_ends_it_all(pool: ThreadPoolExecutor) -> None:
    def work(row: int) -> int:
        if row == 3:
            raise KeyError(row)
        return row

    results = in_order(range(100), work, pool=pool, window=8, stop=StopFlag())

    assert [0, 1, 2] == [next(results) for _ in range(3)]
    with pytest.raises(KeyError):
        next(results)


def test_no_rows_are_no_results(pool: ThreadPoolExecutor) -> None:
    assert [] == list(in_order([], str, pool=pool, window=8, stop=StopFlag()))
