"""One candidate on one row: asked, scored, remembered. Many at once, the results in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.paid_model import NotAsked, PaidModel
from overmind_executors.contract import Stop, WorkStopped
from overmind_executors.inference.parameters import ModelTarget
from overmind_executors.inference.requests import MissingField, NotMessages, body_of
from overmind_executors.judge_scoring.lines import Scored, overall
from overmind_executors.judge_scoring.scorer import RowScorer
from overmind_executors.judging.telling import objections
from overmind_executors.rows.engine import in_threads
from overmind_executors.rows.rows import Row
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.texts import Prompt, Texts, digest, target_with

_ROWS_AHEAD: Final = 16
# Letters of what one evaluator said, in a file.
_MOST_SAID: Final = 400
# What a row says of an output of its own, which is not the one that is scored here.
_OF_ANOTHER_OUTPUT: Final = frozenset(
    {"output", "response", "error", "success", "latency_ms", "cost_usd", "tool_calls", "trajectory", "custom_id",
     "datapoint_id", "x_overmind", "turns", "turn_count"}
)  # fmt: skip
# The model was well and made nothing of use: that is the prompt's doing, and worth 0.
_WORTH_NOTHING: Final = frozenset({Kind.TRUNCATED, Kind.REFUSED, Kind.CONTENT_FILTER, Kind.BAD_REQUEST})
_ANSWERED: Final = frozenset(kind.value for kind in Kind if kind.has_output)


class NoMoreCalls(Exception):
    """A limit of the budget is reached, or the provider is gone: `reason`, and in the text what is known of it."""

    def __init__(self, reason: str, words: str = "") -> None:
        super().__init__("; ".join(filter(None, (reason, words))))
        self.reason = reason


@dataclass(frozen=True)
class Trial:
    """
    What a candidate made of a row.

    Attributes:
        value: in 0 to 1; None when the output could not be scored, which says nothing about the candidate.
        kind: how the call ended.
        said: what evaluators and judges said of the output, for whoever writes the next candidate.
        cost_usd: of the answer; judging it is not what a prompt costs.
        gate_failed: whether the output fails a gate, or tries to talk its judge round.
    """

    row_id: str
    value: float | None
    kind: str = "ok"
    output: Any = None
    said: tuple[str, ...] = ()
    latency_ms: float = 0.0
    cost_usd: float | None = None
    prompt_tokens: int | None = None
    gate_failed: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether there is an output, whatever it is worth."""
        return self.kind in _ANSWERED

    @classmethod
    def of_json(cls, row_id: str, entry: Mapping[str, Any]) -> Trial:
        """What `as_json` made."""
        return cls(
            row_id,
            entry["value"],
            entry["kind"],
            entry["output"],
            tuple(entry.get("said", ())),
            entry["latency_ms"],
            entry["cost_usd"],
            entry.get("prompt_tokens"),
            entry.get("gate_failed", False),
        )

    def as_json(self) -> dict[str, Any]:
        """For a line of `comparison.jsonl`."""
        return {
            "value": self.value,
            "kind": self.kind,
            "output": self.output,
            "latency_ms": round(self.latency_ms, 3),
            "cost_usd": self.cost_usd,
            "prompt_tokens": self.prompt_tokens,
            "gate_failed": self.gate_failed,
            "said": [line[:_MOST_SAID] for line in self.said],
        }


@dataclass(frozen=True)
class Piece:
    """Work to be done: *texts* on *case*, for the time *repetition*, counted from 0."""

    texts: Texts
    case: Case
    repetition: int = 0

    def key(self) -> tuple[str, str, int]:
        """Equal for equal work."""
        return digest(self.texts), self.case.row.id, self.repetition


class Bench(Protocol):
    """Where candidates are tried. One call at a time; the same work twice is done once."""

    def trials(self, pieces: Sequence[Piece]) -> list[Trial]:
        """
        A trial for each of *pieces*, in their order.

        Raises:
            NoMoreCalls: not all of them could be done.
            WorkStopped: the job was asked to stop.
        """

    def unpaid(self, pieces: Sequence[Piece]) -> int:
        """How many of *pieces* have not been done yet."""


@dataclass
class ModelBench:
    """
    Fills the port over a chat model.

    Attributes:
        gates: titles of the evaluators that only let pass or not.
    """

    model: PaidModel
    others: Sequence[PaidModel]
    target: ModelTarget
    prompt: Prompt
    scorer: RowScorer
    gates: frozenset[str]
    concurrency: int
    timeout_s: float
    stop: Stop
    on_trial: Callable[[Piece, Trial], None] = lambda _piece, _trial: None
    done: dict[tuple[str, str, int], Trial] = field(default_factory=dict)

    def trials(self, pieces: Sequence[Piece]) -> list[Trial]:
        """See Bench."""
        missing = {key: piece for piece in pieces if (key := piece.key()) not in self.done}
        workers = max(1, min(self.concurrency, self.model.endpoint.max_concurrency))
        made = in_threads(
            missing.values(),
            self._one,
            workers=workers,
            ahead=_ROWS_AHEAD,
            stop=self.stop,
            cut_after=self._cut_after,
        )
        with closing(made):
            for key, trial in zip(missing, made, strict=True):
                self.done[key] = trial
                self.on_trial(missing[key], trial)
        return [self.done[piece.key()] for piece in pieces]

    def _cut_after(self, seconds: float) -> None:
        for model in (self.model, *self.others):
            model.cut_after(seconds)

    def unpaid(self, pieces: Sequence[Piece]) -> int:
        """See Bench."""
        return len({piece.key() for piece in pieces} - self.done.keys())

    def _one(self, piece: Piece) -> Trial:
        row = piece.case.row
        try:
            body = body_of(row, target_with(self.target, self.prompt, piece.texts))
        except (MissingField, NotMessages):
            return Trial(row.id, None, "invalid_row")
        answer = self.model.ask(body, row_id=row.id, repetition=piece.repetition, timeout_s=self.timeout_s)
        if isinstance(answer, NotAsked):
            raise ended_by(answer)
        if not answer.kind.has_output:
            return _unanswered(row, answer)
        scored = self.scorer.score(_with_output(row, answer, piece))
        for model in self.others:
            if model.halt.reason:
                raise NoMoreCalls(model.halt.reason, model.halt.words)
        return self._trial(row, answer, scored)

    def _trial(self, row: Row, answer: Answer, scored: Scored) -> Trial:
        whole = overall(scored.scores, self.gates)
        value = whole.value
        if value is None and scored.item is not None and scored.item.absence:
            value = 0.0
        return Trial(
            row.id,
            value,
            answer.kind.value,
            answer.output,
            tuple(_said(scored)),
            answer.latency_ms,
            answer.cost_usd,
            answer.prompt_tokens,
            self._fails_a_gate(scored),
        )

    def _fails_a_gate(self, scored: Scored) -> bool:
        """An output that talks to its judge fails one that every job has."""
        is_shut = any(scored.passes.get(title) is False for title in self.gates)
        return is_shut or (scored.judged is not None and bool(scored.flags))


def ended_by(answer: NotAsked) -> Exception:
    """What is raised for a call that was not made."""
    if answer.reason == "stopped":
        return WorkStopped("asked to stop")
    return NoMoreCalls(answer.reason, answer.words)


def _unanswered(row: Row, answer: Answer) -> Trial:
    value = 0.0 if answer.kind in _WORTH_NOTHING else None
    said = (f"the model gave no answer: {answer.kind.value}",)
    tokens = answer.prompt_tokens
    return Trial(row.id, value, answer.kind.value, None, said, answer.latency_ms, answer.cost_usd, tokens)


def _with_output(row: Row, answer: Answer, piece: Piece) -> Row:
    """*row* as if it had been logged with this output; its id is the trial's, for a judge is asked about trials."""
    trial_id = f"{row.id}@{digest(piece.texts)[:16]}#{piece.repetition}"
    source: Mapping[str, Any] = {key: value for key, value in row.source.items() if key not in _OF_ANOTHER_OUTPUT}
    output = answer.output
    return replace(row, id=trial_id, source={**source, "output": output}, body=None)


def _said(scored: Scored) -> list[str]:
    """What is worth telling: every score below its best, with the reason that was given."""
    lines = []
    for title, score in scored.scores.items():
        if score.value is not None and score.value < 1:
            lines.append(" ".join(filter(None, (f"{title}: {score.value:.2f}", score.code, score.reason[:300]))))
    for opinion in scored.judged.opinions if scored.judged else ():
        lines += objections(opinion.judge, opinion.details)
    return lines
