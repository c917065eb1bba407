"""Which troubles are the host's: read off the error, or off what led to it."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from overmind_executors.contract import ExecutionFailed
from overmind_executors.process.host_faults import reason_of


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EIO, "disk_error"),
        (errno.EROFS, "disk_error"),
        (errno.EMFILE, "out_of_resources"),
        (errno.ENFILE, "out_of_resources"),
        (errno.ENOMEM, "out_of_resources"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
        (errno.ECONNREFUSED, None),
    ],
)
def test_an_error_of_the_operating_system_by_its_number(number: int, reason: str | None) -> None:
    assert reason == reason_of(OSError(number, "why"))


def test_a_database_that_is_full() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as full:
        database.execute("CREATE TABLE filler AS SELECT zeroblob(100000)")
    database.close()

    assert "disk_full" == reason_of(full.value)


@pytest.mark.parametrize(("error", "reason"), [(MemoryError(), "out_of_resources"), (ValueError("?"), None)])
def test_other_errors(error: Exception, reason: str | None) -> None:
    assert reason == reason_of(error)


def test_what_led_to_an_error_counts() -> None:
    failed = ExecutionFailed("the journal of calls cannot be written")
    failed.__cause__ = OSError(errno.ENOSPC, "no space left on device")

    assert "disk_full" == reason_of(failed)
