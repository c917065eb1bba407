"""A job's parameters, read by a pydantic model: strict, every problem at once, no value of the user's repeated."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from overmind_executors.contract import InvalidParameters, Problem


class Parameters(BaseModel):
    """What all models of parameters share: exact types, no NaN, no key that nobody reads."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


_SCORED: Final = ("judge_scoring", "prompt_tuning", "model_backtesting")
WORDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "target": ("inference", "prompt_tuning"),
    "output_schema": ("inference",),
    "evaluators": _SCORED,
    "judge": _SCORED,
    "metrics": ("judge_scoring",),
    "labels": ("judge_scoring",),
    "prompt": ("prompt_tuning", "model_backtesting"),
    "tune": ("prompt_tuning",),
    "drafts": ("prompt_tuning",),
    "analyzer_model": ("prompt_tuning",),
    "current_model": ("model_backtesting",),
    "models": ("model_backtesting",),
}
"""Parameters by which a person tells the job types apart, and the types that have them."""

ModelT = TypeVar("ModelT", bound=Parameters)


def check(model: type[ModelT], given: Mapping[str, Any]) -> ModelT:
    """
    *given* as a *model*.

    Raises:
        InvalidParameters: names every wrong field; for an unknown one also the nearest that there is.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise InvalidParameters(*(_problem(model, fault) for fault in error.errors(include_url=False))) from None


def nearest(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """`; did you mean 'x'?` for the word of *known* that is most like *word*, empty when none is."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _problem(model: type[BaseModel], fault: Any) -> Problem:
    path = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        return Problem(".".join(path), f"unknown key{_hint(model, path)}")
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return Problem(".".join(path), message[:1].lower() + message[1:])


def _hint(model: type[BaseModel], path: list[str]) -> str:
    """Whose key it is, if it is one of another job type; else the nearest that there is."""
    if len(path) == 1 and (types := WORDS_OF.get(path[0])):
        return f"; jobs of type {' or '.join(types)} have it: is the job's type right?"
    return nearest(path[-1], _fields_at(model, path[:-1]))


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """The names that *model* knows at *path*, which may lead through models within models and lists of them."""
    here: type[BaseModel] | None = model
    for part in path:
        if here is None or part not in here.model_fields:
            continue  # an index, or the tag of a union
        here = _model_in(here.model_fields[part].annotation)
    return list(here.model_fields) if here else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
