"""From which confidence on a judge may be believed: learnt from labels, with a guarantee."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

ALPHA: Final = 0.1
"""How often, at most, the judge may agree with people less than it was asked to."""


def confidence_needed(seen: Sequence[tuple[float, bool]], *, target: float) -> float | None:
    """
    The lowest confidence at and above which the judge agrees with people at least *target* of the time.

    Thresholds are tried from the highest down, each by an exact binomial test at level ALPHA, and the first that
    cannot be shown to be good enough ends the search: so many tests cost no more error than one.

    Args:
        seen: of labelled rows, the judge's confidence and whether it agreed with the label.

    Returns:
        None when not even the highest confidence can be shown to be enough: then the judge abstains throughout.

    Source:
        J. Jung, F. Brahman, Y. Choi, "Trust or Escalate", ICLR 2025 (arXiv 2407.18370); fixed-sequence testing:
        P. Bauer, "Multiple testing in clinical trials", Statistics in Medicine 10, 1991.
    """
    needed = None
    for threshold in sorted({confidence for confidence, _ in seen}, reverse=True):
        agreed = [agrees for confidence, agrees in seen if confidence >= threshold]
        if _chance_of(sum(agreed), len(agreed), target) > ALPHA:
            break
        needed = threshold
    return needed


def _chance_of(hits: int, trials: int, share: float) -> float:
    """P(at least *hits* of *trials*) when each is a hit with probability *share*."""
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(hits, trials + 1)
    )  # fmt: skip
    return math.fsum(math.exp(log) for log in logs)
