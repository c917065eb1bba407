"""Inputs that are not what a job works on: addresses for models, objects for rows, code for text."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from overmind_executors.contract import Context, InvalidParameters
from overmind_executors.inference import InferenceExecutor
from zoo import Zoo

Make = Callable[..., Context]
TARGET = {"model": "echo"}

ADDRESSES = (
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/x",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:127.0.0.1]/",
    "http://2130706433/",
    "http://localhost:1/v1",
    "//evil.example/",
    "https://user:pass@evil.example/v1",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_model_of_this_host(make_context: Make, zoo: Zoo, address: str) -> None:
    """A job names what the host's owner has named; there is no field in which an address could stand."""
    executor = InferenceExecutor()
    task = executor.validate({"target": {"model": address}, "items": [{"input": "a"}]})

    with pytest.raises(InvalidParameters, match=r"target\.model"):
        executor.run(task, make_context(None))

    assert 0 == zoo.total


@pytest.mark.parametrize("field", ["base_url", "url", "api_base", "proxy", "api_key", "headers"])
def test_there_is_no_field_for_an_address_or_a_key(field: str) -> None:
    with pytest.raises(InvalidParameters, match=f"target.{field}: unknown key"):
        InferenceExecutor().validate(
            {"target": {**TARGET, field: "http://evil.example"}, "items": [{"input": "a"}]}
        )


class Harmful:
    """What would run a command if anybody unpickled it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harm",)


def _torch() -> bytes:
    """A model file as torch saves it: a zip with a pickle in it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Harmful()))
        archive.writestr("model/version", "3")
    return made.getvalue()


OBJECTS: dict[str, bytes] = {
    "a pickle": pickle.dumps(Harmful()),
    "an old pickle": pickle.dumps(Harmful(), protocol=0),
    "a model of torch": _torch(),
    "YAML that makes an object": b"!!python/object/apply:os.system ['touch harm']\n",
    "YAML rows": b"- input: !!python/name:os.system\n",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(200),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_file_that_is_no_rows_is_refused_and_never_run(
    make_context: Make, zoo: Zoo, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    executor = InferenceExecutor()
    task = executor.validate({"target": TARGET})

    with pytest.raises(InvalidParameters):
        executor.run(task, make_context(OBJECTS[name]))

    assert not (tmp_path / "harm").exists()
    assert 0 == zoo.total
