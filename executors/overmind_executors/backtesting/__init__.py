"""
The job type `model_backtesting`: would another model do better, and how sure is that?

```
rows ─▶ asking ─▶ rows.jsonl ─▶ evidence ─▶ decision ─▶ figures ─▶ backtest_results, report
          └─ racing ◀───────────────┘
```

Everything behind `rows.jsonl` is a pure function of its lines and the parameters.
"""

from overmind_executors.backtesting.executor import BacktestingExecutor

__all__ = ["BacktestingExecutor"]
