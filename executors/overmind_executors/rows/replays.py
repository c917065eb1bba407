"""
Rows of recorded traffic that nobody asked for: a job of ours, or another optimiser's, asked the model itself.

A search that learnt from them would learn from its own attempts, and a backtest would compare with them.
"""

from __future__ import annotations

from typing import Final

from overmind_executors.rows.rows import Row

_JOBS: Final = frozenset({"prompt_tuning", "judge_scoring", "model_backtesting", "backtest"})
_PLACES: Final = ("metadata", "metadata_attributes")


def is_replay(row: Row) -> bool:
    """Whether the `operation` of *row*, its own or in its metadata, is that of a job; `backtest:model` is one."""
    homes = (row.source, *(row.source.get(name) for name in _PLACES))
    told = (home.get("operation") for home in homes if isinstance(home, dict))
    return any(isinstance(one, str) and one.partition(":")[0] in _JOBS for one in told)
