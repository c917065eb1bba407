"""
Chat models as judges: a rubric of yes-or-no questions, or two outputs side by side.

```
Item ─▶ messages (the output is data, fenced) ─▶ asking ─▶ strict reading ─▶ ballots ─▶ votes, panel ─▶ Score
```
"""
