"""What is no difference. Apart from the tests, so that who asks for it alone loads no scipy."""

from __future__ import annotations

from typing import Final

TIE: Final = 1e-9
"""Differences nearer to nought than this: sums of floats differ in their last digits for equal scores."""
