"""What is known of a row beside its score, and how many rows of each source were truly shown to who writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from overmind_executors.rows.rows import Row
from overmind_executors.scoring.texts import as_text
from overmind_executors.tuning.parameters import PromptTuningParameters

_MOST_LETTERS = 600


@dataclass
class Feedback:
    """
    Reads rows, and counts.

    Attributes:
        labelled, customers, judged: ids of rows whose label, customer's word, or score's reason was shown.
    """

    task: PromptTuningParameters
    labelled: set[str] = field(default_factory=set)
    customers: set[str] = field(default_factory=set)
    judged: set[str] = field(default_factory=set)

    def lines(self, row: Row, said: Sequence[str]) -> list[str]:
        """
        What is to be shown of *row*; counted as shown.

        Args:
            said: of the output, by evaluators and judges.
        """
        found = list(said)
        if said:
            self.judged.add(row.id)
        if self.task.use_labels and (labels := list(_told(row, self.task.feedback.labels))):
            self.labelled.add(row.id)
            found += [f"a person says: {label}" for label in labels]
        if self.task.use_customer_feedback and (words := list(_told(row, self.task.feedback.customer_feedback))):
            self.customers.add(row.id)
            found += [f"a customer says: {word}" for word in words]
        return found

    def counts(self) -> dict[str, int]:
        """Rows shown, by source."""
        return {
            "human_labels_count": len(self.labelled),
            "customer_feedback_count": len(self.customers),
            "judge_scored_count": len(self.judged),
        }


def _told(row: Row, fields: Sequence[str]) -> Iterator[str]:
    for name in fields:
        value: Any = row.source.get(name)
        if value not in (None, "", [], {}):
            yield as_text(value)[:_MOST_LETTERS]
