"""
All models about one row, one after the other in an order drawn for that row, and what their answers are worth.

So whatever happens to the provider, the network or this host in a bad hour happens to all models alike.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.backtesting.parameters import BacktestingParameters, base_and_effort
from overmind_executors.calls.answers import Answer
from overmind_executors.calls.paid_model import NotAsked, PaidModel
from overmind_executors.inference.requests import MissingField, NotMessages, body_of
from overmind_executors.judge_scoring.lines import Judged, overall
from overmind_executors.judge_scoring.scorer import Panel
from overmind_executors.rows.rows import Row
from overmind_executors.scoring.items import Item, item_of
from overmind_executors.scoring.scores import Score, failed, passed, skipped

JUDGE: Final = "judge"
# What a row says of the output that it came with: it is not that of the model that is asked here.
_OF_AN_OUTPUT: Final = frozenset(
    {"output", "error", "success", "response", "x_overmind", "latency_ms", "cost_usd", "model", "body"}
    | {"tool_calls", "trajectory", "turns", "turn_count", "custom_id", "datapoint_id"}
)

_STREAMED: Final[Mapping[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Piece:
    """A row, once; *models* in the order of asking."""

    row: Row
    repetition: int
    models: tuple[str, ...]


def piece_of(row: Row, repetition: int, models: Sequence[str], seed: int) -> Piece:
    """One row to ask *models* about, in an order that follows from the seed and the row."""
    order = list(models)
    random.Random(f"{seed}\n{row.id}\n{repetition}").shuffle(order)  # noqa: S311  # no secret
    return Piece(row, repetition, tuple(order))


class RowAsker:
    """Called from the engine's threads; keeps nothing between rows."""

    def __init__(
        self, task: BacktestingParameters, models: Mapping[str, PaidModel], judges: Sequence[PaidModel]
    ) -> None:
        self._task = task
        self._models = models
        self._prompts = {name: task.prompt_of(name) for name in task.all_models}
        self._panel = Panel(task.judge, judges, timeout_s=task.item_timeout_s) if task.judge else None
        self._gates = frozenset(one.title for one in task.evaluators if one.gate)

    def ask(self, piece: Piece) -> dict[str, Any]:
        """One line of `rows.jsonl`."""
        row = piece.row
        judged: dict[bytes, Judged] = {}
        cells = {name: self._cell(piece, name, judged) for name in piece.models}
        if self._task.is_recorded:
            cells[self._task.current_model] = self._recorded(piece, judged)
        return {
            "item_id": row.id,
            "line": row.line,
            "repetition": piece.repetition,
            "order": list(piece.models),
            "segments": segments_of(row, self._task.segment_fields),
            "cluster": _plain(row.fields().get(self._task.cluster_field)) if self._task.cluster_field else None,
            "input": row.input,
            "expected_output": row.expected,
            "models": {name: cells[name] for name in self._task.all_models if name in cells},
        }

    def _cell(self, piece: Piece, name: str, judged: dict[bytes, Judged]) -> dict[str, Any]:
        model, row = self._models[name], piece.row
        try:
            body = {**body_of(row, self._prompts[name]), **effort_of(self._task.model_of(name), model)}
            if self._task.stream:
                body |= _STREAMED
        except MissingField as missing:
            return _unasked("missing_input_field", f"no field {str(missing)!r}")
        except NotMessages:
            return _unasked("invalid_row", "input is a list, but not of messages")
        # Two endpoints may have one model id: the journal has to tell them apart.
        answer = model.ask(
            body,
            row_id=f"{name}\n{row.id}",
            repetition=piece.repetition,
            timeout_s=self._task.item_timeout_s,
        )
        if isinstance(answer, NotAsked):
            return _unasked(answer.reason, f"not asked: {answer.reason}")
        return {**_about(answer), **self._worth(piece, answer, judged)}

    def _recorded(self, piece: Piece, judged: dict[bytes, Judged]) -> dict[str, Any]:
        """What the row says of the incumbent's answer, scored as the others are."""
        item = item_of(piece.row)
        if item.absence and not item.tool_calls:
            return _unasked(f"recorded_{item.absence}", "the row has no output of the current model")
        head = _unasked("recorded", "") | {"message": None, "asked": True, "answered": True, "output": item.output}
        known = {"latency_ms": item.latency_ms, "cost_usd": item.cost_usd}
        return {**head, **known, **self._item_worth(piece, item, judged)}

    def _worth(self, piece: Piece, answer: Answer, judged: dict[bytes, Judged]) -> dict[str, Any]:
        if not answer.kind.has_output:
            return _not_scored(skipped("no_output"))
        return self._item_worth(piece, _item(piece.row, answer), judged)

    def _item_worth(self, piece: Piece, item: Item, judged: dict[bytes, Judged]) -> dict[str, Any]:
        scores = {one.title: one.evaluate(item) for one in self._task.evaluators}
        gate_failed = any(_fails(scores[one.title], one.passes_at) for one in self._task.evaluators if one.gate)
        verdict = None
        if self._panel is not None:
            if gate_failed:
                verdict = Judged(passed(False, "gate_failed"), 1.0, passes=False)
            else:
                verdict = self._verdict(self._panel, piece, item, judged)
            scores[JUDGE] = verdict.score
        whole = overall(scores, self._gates)
        return {
            "quality": whole.value,
            "scoring": whole.outcome.value,
            "scoring_code": whole.code or None,
            "gate_failed": gate_failed,
            "scores": {title: score.as_json() for title, score in scores.items()},
            "judge": _about_judging(verdict),
        }

    def _verdict(self, panel: Panel, piece: Piece, item: Item, judged: dict[bytes, Judged]) -> Judged:
        """Equal answers to one row are judged once: they are a tie, whatever the judge's mood."""
        if item.absence:
            return Judged(failed(item.absence))
        said = strict_json.canonical(item.output)
        if said not in judged:
            judged[said] = panel.judge(item, f"judge\n{piece.row.id}\n{piece.repetition}")
            return judged[said]
        return Judged(judged[said].score, judged[said].confidence, judged[said].passes)


def effort_of(name: str, model: PaidModel) -> dict[str, Any]:
    """What the key *name* adds to a request."""
    base, effort = base_and_effort(name)
    return {"reasoning_effort": effort} if effort and base == model.endpoint.name else {}


def segments_of(row: Row, fields: Sequence[str]) -> list[str]:
    """`field=value` for each value; an entry that is neither text nor a whole number nor a truth is none."""
    known = row.fields()
    found = []
    for field in fields:
        value = known.get(field)
        values = value if isinstance(value, list) else [value]
        found += [f"{field}={text}" for one in values if (text := _plain(one)) is not None]
    return list(dict.fromkeys(found))


def _plain(value: Any) -> str | None:
    return str(value)[:100] if isinstance(value, str | int) and value != "" else None


def _item(row: Row, answer: Answer) -> Item:
    source = {key: value for key, value in row.source.items() if key not in _OF_AN_OUTPUT}
    about = {"output": answer.output, "latency_ms": answer.latency_ms, "cost_usd": answer.cost_usd}
    return item_of(Row(row.order, row.line, row.id, {**source, **about}, row.input, row.expected))


def _fails(score: Score, limit: float | None) -> bool:
    return score.value is not None and limit is not None and score.value < limit - 1e-12


def _about(answer: Answer) -> dict[str, Any]:
    return {
        "outcome": answer.kind.value,
        "message": answer.message or None,
        "asked": True,
        "answered": answer.kind.has_output,
        "output": answer.output,
        "latency_ms": answer.latency_ms if answer.kind.has_output else None,
        "first_token_ms": answer.first_token_ms if answer.kind.has_output else None,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": answer.cost_usd,
        "attempts": answer.attempts,
        "started_at": answer.started_at,
    }


def _unasked(reason: str, message: str) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("output", "latency_ms", "first_token_ms", "prompt_tokens", "completion_tokens", "cost_usd", "started_at")
    )
    head = {"outcome": reason, "message": message, "asked": False, "answered": False}
    return {**head, **nothing, "attempts": 0, **_not_scored(skipped(reason))}


def _not_scored(score: Score) -> dict[str, Any]:
    return {
        "quality": None,
        "scoring": score.outcome.value,
        "scoring_code": score.code or None,
        "gate_failed": False,
        "scores": {},
        "judge": None,
    }


def _about_judging(judged: Judged | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    answers = [answer for opinion in judged.opinions for answer in opinion.answers]
    costs = [answer.cost_usd for answer in answers]
    return {
        "confidence": judged.confidence,
        "items": [{"judge": one.judge, **one.score.as_json(), **one.details} for one in judged.opinions],
        "calls": sum(answer.attempts for answer in answers),
        "cost_usd": None if None in costs else round(sum(cost or 0.0 for cost in costs), 10),
    }
