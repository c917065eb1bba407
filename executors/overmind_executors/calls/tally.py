"""
What a job's calls of chat models came to, told to the agent while the job works: for its figures and for traces.

Figures are told as totals, so that a line that is lost is made good by the next one. A span is told once, when its
call has ended; when the agent does not read, it is lost, which no job is worth less for.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from overmind_executors.trace_context import TraceContext

if TYPE_CHECKING:  # the contract knows this module, and must not load what answers are read with
    from overmind_executors.calls.answers import Answer


@dataclass
class _Totals:
    """Of one model."""

    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class CallTally:
    """
    Counts. Safe to use from any thread; no call waits for anybody.

    Args:
        on_news: told that totals have changed.
        on_span: given what a span is made of.
    """

    def __init__(
        self,
        on_news: Callable[[], object] = lambda: None,
        on_span: Callable[[Mapping[str, Any]], object] = lambda _span: None,
    ) -> None:
        self._on_news = on_news
        self._on_span = on_span
        self._lock = threading.Lock()
        self._of: dict[str, _Totals] = {}

    def ended(self, model: str, answer: Answer, span: TraceContext | None) -> None:
        """A call of *model*, by the host's name for it, has ended with *answer*, whose cost is known by now."""
        with self._lock:
            totals = self._of.setdefault(model, _Totals())
            totals.kinds[answer.kind.value] += 1
            totals.prompt_tokens += answer.prompt_tokens or 0
            totals.completion_tokens += answer.completion_tokens or 0
            totals.cost_usd += answer.cost_usd or 0.0
            totals.seconds += answer.latency_ms / 1000
        if span is not None:
            self._on_span(_span(model, answer, span))
        self._on_news()

    def refused(self, model: str, reason: str) -> None:
        """A call of *model* was not made, for *reason*."""
        with self._lock:
            self._of.setdefault(model, _Totals()).refused[reason] += 1
        self._on_news()

    def totals(self) -> list[dict[str, Any]]:
        """One line for each model, with all that was counted so far."""
        with self._lock:
            return [
                {
                    "model": model,
                    "kinds": dict(totals.kinds),
                    "refused": dict(totals.refused),
                    "prompt_tokens": totals.prompt_tokens,
                    "completion_tokens": totals.completion_tokens,
                    "cost_usd": round(totals.cost_usd, 9),
                    "seconds": round(totals.seconds, 6),
                }
                for model, totals in self._of.items()
            ]


def _span(model: str, answer: Answer, span: TraceContext) -> dict[str, Any]:
    started_at = datetime.fromisoformat(answer.started_at).timestamp() if answer.started_at else 0.0
    return {
        "span_id": span.span_id,
        "model": model,
        "kind": answer.kind.value,
        "status": answer.status or 0,
        "started_at": started_at,
        "seconds": answer.latency_ms / 1000,
        "prompt_tokens": answer.prompt_tokens or 0,
        "completion_tokens": answer.completion_tokens or 0,
    }
