"""
Reports for people: one content, written as Markdown and as a page that stands alone.

```
Report ─ Section ─ paragraph | Table | Figure
   └──▶ write(report, folder) ──▶ report.md, report.html
```

A figure is a table with a way to draw it, so nothing is shown that is not also there as a number.
"""

from overmind_executors.report.content import Cell, Figure, Report, Section, Table
from overmind_executors.report.files import HTML, MARKDOWN, rendered, with_text, write

__all__ = ["HTML", "MARKDOWN", "Cell", "Figure", "Report", "Section", "Table", "rendered", "with_text", "write"]
