"""What is known of a row beside its score, and how many rows of each source were truly shown to who writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from overmind_executors.rows.rows import Row
from overmind_executors.scoring.texts import as_text
from overmind_executors.tuning.parameters import PromptTuningParameters
from overmind_executors.tuning.traffic import recorded_score

MOST_SAID: Final = 20
"""Of what evaluators and judges said of one output, as it is shown; lines."""
_MOST_LETTERS: Final = 600
# Of what one evaluator or judge says, as it is expected.
_OF_A_LINE: Final = 200


@dataclass
class Feedback:
    """
    Reads rows, and counts.

    Attributes:
        labelled, customers, judged, recorded, failed: ids of rows whose label, customer's word, score's reason,
            score of an earlier answer, or bad answer was shown.
    """

    task: PromptTuningParameters
    labelled: set[str] = field(default_factory=set)
    customers: set[str] = field(default_factory=set)
    judged: set[str] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def lines(self, row: Row, said: Sequence[str], *, is_bad: bool) -> list[str]:
        """
        What is to be shown of *row*; counted as shown.

        Args:
            said: of the output, by evaluators and judges.
            is_bad: whether that output is worth less than the most.
        """
        found = list(said[:MOST_SAID])
        if is_bad:
            self.failed.add(row.id)
        if said:
            self.judged.add(row.id)
        if self.task.use_labels and (labels := list(_told(row, self.task.feedback.labels))):
            self.labelled.add(row.id)
            found += [f"a person says: {label}" for label in labels]
        if self.task.use_customer_feedback and (words := list(_told(row, self.task.feedback.customer_feedback))):
            self.customers.add(row.id)
            found += [f"a customer says: {word}" for word in words]
        if self.task.use_recorded_scores and (scores := list(_scores(row, self.task.feedback.recorded_scores))):
            self.recorded.add(row.id)
            found += [f"an earlier answer was scored {score}" for score in scores]
        return found

    def counts(self) -> dict[str, int]:
        """Rows shown, by source."""
        return {
            "human_labels_count": len(self.labelled),
            "customer_feedback_count": len(self.customers),
            "judge_scored_count": len(self.judged),
            "recorded_scores_count": len(self.recorded),
            "failures_count": len(self.failed),
        }


def most_letters(task: PromptTuningParameters, row: Row) -> int:
    """What may be said of *row* in a question, letters: what it says itself, and all evaluators and judges."""
    judge = task.judge
    questions = sum(len(rubric) for rubric in judge.rubrics().values()) * len(judge.models) if judge else 0
    said = min(MOST_SAID, len(task.evaluators) + 1 + questions) * _OF_A_LINE
    own = Feedback(task).lines(row, (), is_bad=True)
    return said + sum(map(len, own))


def _scores(row: Row, fields: Sequence[str]) -> Iterator[str]:
    for name in fields:
        value: Any = row.source.get(name)
        if (score := recorded_score(value)) is None:
            continue
        reason = value.get("correctness_reason") if isinstance(value, dict) else None
        yield f"{score:.2f} of 1" + (f": {as_text(reason)[:_MOST_LETTERS]}" if reason else "")


def _told(row: Row, fields: Sequence[str]) -> Iterator[str]:
    for name in fields:
        value: Any = row.source.get(name)
        if value not in (None, "", [], {}):
            yield as_text(value)[:_MOST_LETTERS]
