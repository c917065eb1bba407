"""What a job works on: the input file that its parameters name, whichever dialect they came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from overmind_controlplane.caller import Caller
from overmind_controlplane.lab.checks import an_id
from overmind_controlplane.lab.tables import Dataset
from overmind_controlplane.refusals import NotFound
from overmind_controlplane.storage import files

_KINDS: Final = {"items_file": "model", "dataset_id": "dataset"}


def get_dataset(session: Session, caller: Caller, dataset_id: str) -> Dataset:
    """
    The caller's dataset of that id.

    Raises:
        NotFound: there is none.
    """
    mine = (Dataset.id == dataset_id, Dataset.project_id == caller.project_id, Dataset.is_deleted.is_(False))
    dataset = session.scalar(select(Dataset).where(*mine))
    if dataset is None:
        raise NotFound("Not found.")
    return dataset


def input_model(session: Session, caller: Caller, parameters: Any) -> str | None:
    """
    The model that a job with these parameters works on: the one that `items_file` names, else the datapoints of
    `dataset_id`; None when it names neither.

    Raises:
        NotFound: what is named is not there; the message says which.
    """
    if not isinstance(parameters, Mapping):
        return None
    try:
        if (model_id := _id_of(parameters.get("items_file"))) is not None:
            return files.get_model(session, caller, model_id).id
        if (told := parameters.get("dataset_id")) is not None:
            return get_dataset(session, caller, _id_of(told) or "").model_id
    except NotFound:
        name = "items_file" if _id_of(parameters.get("items_file")) else "dataset_id"
        raise NotFound(f"parameters.{name}: there is no {_KINDS[name]} {str(parameters[name])[:64]}.") from None
    return None


def _id_of(told: Any) -> str | None:
    """*told* as an id; None for what cannot be one of ours: then it is a matter for the executor."""
    try:
        return an_id(told)
    except ValueError:
        return None
