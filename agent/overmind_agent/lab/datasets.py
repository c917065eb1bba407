"""A dataset of Overmind Lab as a job's input file: JSON lines of `id`, `input`, `expected_output`, `metadata`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from overmind_agent.errors import InvalidInput, ProtocolError, RejectedError
from overmind_agent.jobs import RemoteFile
from overmind_agent.lab.listing import read_pages
from overmind_agent.over_http.calls import HttpCalls, segment
from overmind_agent.over_http.refusals import ANY_2XX, MIB, Verb
from overmind_executors import strict_json

DATAPOINTS: Final = Verb("download", 60, accepts=ANY_2XX, max_bytes=64 * MIB)
NAME: Final = "dataset.jsonl"
MAX_PAGES: Final = 10_000
_NOT_FOUND: Final = 404


def named_by(parameters: Any) -> RemoteFile | None:
    """
    The dataset that *parameters* name, None when they name none. Its id is its digest: a dataset never changes.

    Raises:
        InvalidInput: they name what this server cannot give.
    """
    if not isinstance(parameters, Mapping):
        return None
    if parameters.get("items_file") is not None:
        raise InvalidInput("parameters.items_file: this control plane has no files; give items, path or dataset_id")
    dataset_id = parameters.get("dataset_id")
    if dataset_id is None:
        return None
    if not isinstance(dataset_id, str):
        raise InvalidInput("parameters.dataset_id: must be a string")
    digest = hashlib.sha384(f"dataset/{dataset_id}".encode()).hexdigest()
    return RemoteFile(NAME, digest, "", None, dataset_id)


def download(calls: HttpCalls, file: RemoteFile, destination: Path) -> None:
    """
    Put the datapoints of the dataset behind *file* at *destination*, in their order and in one step.

    Raises:
        InvalidInput: there is no such dataset.
        ControlPlaneError, ProtocolError: a page could not be read; a part is not taken for the whole.
    """
    path = f"/api/datasets/{segment(file.revision_id)}/datapoints/"
    try:
        points = [point for page in read_pages(calls, DATAPOINTS, path, most=MAX_PAGES) for point in page]
    except RejectedError as error:
        if error.http_status != _NOT_FOUND:
            raise
        raise InvalidInput(f"parameters.dataset_id: there is no dataset {file.revision_id[:64]!r}") from error
    part = destination.with_name(destination.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as out:
            out.writelines(_lines(points))
            out.flush()
            os.fsync(out.fileno())
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)


def _lines(points: list[dict[str, Any]]) -> Iterator[str]:
    """The lines, by `order`; those without one stay as they came, at the end."""
    for point in sorted(points, key=_place):
        if "input" not in point:
            raise ProtocolError("download: a datapoint has no input")
        known = {"id": point["id"]} if isinstance(point.get("id"), str) else {}
        about = {name: point.get(name) for name in ("order", "persona", "tags")}
        line = {
            **known,
            "input": point["input"],
            "expected_output": point.get("expected_output"),
            "metadata": about,
        }
        yield strict_json.dumps(line) + "\n"


def _place(point: Mapping[str, Any]) -> float:
    order = point.get("order")
    return order if isinstance(order, int) and not isinstance(order, bool) else float("inf")
