"""
How good an output is: deterministic evaluators, and the typed scores that they, judges and tuning share.

```
items ─▶ Item ─▶ evaluators, trajectories, eval_spec ─▶ Score ─▶ Tally: mean and coverage
                 dataset_metrics ─▶ a part for each item ─▶ one Score for all
```
"""
