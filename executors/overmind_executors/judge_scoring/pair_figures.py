"""What judges of pairs have said in both orders: who wins where they kept their word, and whether order counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from overmind_executors.figures import wilson_interval

# What was named when the output stood first, and when it stood second: what that says of the pair.
_WORDS: Final = {("A", "B"): "won", ("B", "A"): "lost", ("tie", "tie"): "tied"}


class PairFigures:
    """Counts; shown the `judge` of each line."""

    def __init__(self) -> None:
        self._pairs: Counter[str] = Counter()
        self._named: Counter[str] = Counter()

    def add(self, judge: Mapping[str, Any] | None) -> None:
        """Count one more line."""
        for opinion in judge["opinions"] if judge else ():
            for first, second in opinion.get("orders", ()):
                self._pairs[_WORDS.get((first, second), "changed")] += 1
                self._named.update((first, second))

    def facts(self) -> dict[str, Any] | None:
        """
        None without a pair. `win_share` is of the pairs that were decided: a judge that names the first output
        whatever it holds takes pairs away from both sides alike, so it is what an unbiased judge would say; the
        mean score, in which a tie is one half, is drawn to the middle by such pairs.
        """
        pairs = self._pairs.total()
        if not pairs:
            return None
        won, lost, first = self._pairs["won"], self._pairs["lost"], self._named["A"]
        return {
            "pairs": pairs,
            "consistency": round(1 - self._pairs["changed"] / pairs, 6),
            "won": won,
            "lost": lost,
            **_share("win_share", "win_share_interval_95", won, won + lost),
            **_share("first_position_rate", "first_position_interval_95", first, first + self._named["B"]),
        }


def _share(name: str, interval: str, hits: int, of: int) -> dict[str, Any]:
    if not of:
        return {name: None, interval: None}
    return {name: round(hits / of, 6), interval: [round(end, 6) for end in wilson_interval(hits, of)]}
