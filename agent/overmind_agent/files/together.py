"""Which result files go together: where there are many small ones, a call for each would be most of the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from overmind_agent.jobs import ResultFile

# So few go one by one, several at a time.
FEW: Final = 16
MOST_FILES: Final = 100
MOST_FILE_BYTES: Final = 10_000


def together(files: Sequence[ResultFile]) -> Iterator[Sequence[ResultFile]]:
    """
    The small ones among *files* that the job cannot do without, in their order, up to MOST_FILES at a time.

    A hundred of them and what is said of each fit into one call. Nothing where they are few.
    """
    small = [file for file in files if file.is_required and file.size_bytes <= MOST_FILE_BYTES]
    if len(small) > FEW:
        for first in range(0, len(small), MOST_FILES):
            yield small[first : first + MOST_FILES]
