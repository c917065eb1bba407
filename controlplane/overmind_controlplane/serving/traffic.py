"""How many requests there were, of which dialect, how they ended, and how long they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

# The first that a path begins with.
_DIALECTS: Final = (
    ("/api/v2/projects/", "prompt-optimization"),
    ("/api/v2/", "agent-pull"),
    ("/api/", "overmind-lab"),
    ("/blobs/", "blobs"),
    ("/health", "probe"),
    ("/metrics", "probe"),
)


class Traffic:
    """
    Counts for this server process. Told from the event loop alone.

    Attributes:
        requests: by dialect and class of status, such as `2xx`.
        seconds: by dialect, held requests included.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request for *path* was answered with *status*, 0 when it was not."""
        dialect = dialect_of(path)
        self.requests[dialect, f"{status // 100}xx" if status else "none"] += 1
        self.seconds[dialect] += seconds


def dialect_of(path: str) -> str:
    """Which dialect *path* is of; `page` for what people look at."""
    return next((dialect for start, dialect in _DIALECTS if path.startswith(start)), "page")
