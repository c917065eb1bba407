"""
What a function is given and what it gives back, in the files of the module contract.

```
in/<input>.<extension>, in/input.json ─▶ the command ─▶ tmp/output.json, and what it names below tmp/
```

Copies of the host's credentials lie elsewhere, in a folder that nobody keeps.

What a function writes is not to be trusted: its paths are followed to where they lead, and that has to be in its
folder.
"""

from __future__ import annotations

import errno
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.contract import ExecutionFailed, InvalidParameters, Problem
from overmind_executors.functions.manifest import Function, Input, Output
from overmind_executors.removal import remove

INVALID_OUTPUT: Final = "function_invalid_output"
NOT_FETCHED: Final = "input_not_fetched"
_MAX_LIST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 10_000
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,16}")
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "@string": (str,),
    "@number": (int, float),
    "@integer": (int,),
    "@boolean": (bool,),
}


@dataclass(frozen=True)
class Folders:
    """
    A function's own folder and what is in it.

    Attributes:
        secret: a folder for what must not outlive the function.
    """

    root: Path
    secret: Path

    @property
    def given(self) -> Path:
        """Where the inputs lie."""
        return self.root / "in"

    @property
    def temp(self) -> Path:
        """Where the function may write."""
        return self.root / "tmp"

    @property
    def input_file(self) -> Path:
        """What the function reads first."""
        return self.given / "input.json"

    @property
    def output_file(self) -> Path:
        """What the function writes last."""
        return self.temp / "output.json"

    def make(self) -> None:
        """Both folders, empty."""
        remove(self.root)
        self.given.mkdir(parents=True)
        self.temp.mkdir()


@dataclass(frozen=True)
class Made:
    """
    One output of a function.

    Attributes:
        key: its name in the manifest.
        type: `file` or `directory`; the latter is a zip file here.
        name: of the result file.
        is_model: whether it is to be a model file, too.
        version_of: the key of the input that it is a newer form of, None for none.
    """

    key: str
    type: str
    name: str
    is_model: bool
    version_of: str | None = None


def parameters_for(function: Function, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    The parameters of a job as *function* wants them, checked without any file.

    Raises:
        InvalidParameters: names every input that is missing, unknown, or of a wrong type.
    """
    if function.inputs is None:
        return dict(given)
    wanted = {key: kind for key, kind in function.inputs.items() if kind.type == "parameter"}
    values = {key: _bare(value) for key, value in given.items()}
    missing = [key for key, kind in wanted.items() if not kind.optional and key not in values]
    missing += [key for key, kind in function.inputs.items() if _cannot_come(function, key, kind)]
    problems = [Problem("", f"function inputs {missing} not provided")] if missing else []
    files = function.file_inputs()
    problems += [
        Problem(key, f"is a second file of the job's; {files[0][0]!r} alone is fetched here", NOT_FETCHED)
        for key, kind in files[1:]
        if not kind.optional
    ]
    problems += [Problem(key, "the function has no such parameter") for key in values if key not in wanted]
    problems += [
        Problem(key, f"must be {' or '.join(kind.validation_types)}")
        for key, kind in wanted.items()
        if key in values and not _fits(values[key], kind)
    ]
    if problems:
        raise InvalidParameters(*problems)
    return values


def lay_out(
    function: Function, values: Mapping[str, Any], folders: Folders, *, model: Path | None, model_name: str | None
) -> None:
    """
    Write the input file and lay the job's model beside it, under a name of ours.

    Raises:
        InvalidParameters: the function needs a model and the job has none, or one with another extension.
        ExecutionFailed: a credential of this host cannot be read.
    """
    inputs: dict[str, Any] = {key: {"type": "parameter", "value": value} for key, value in values.items()}
    for key, kind in function.file_inputs()[:1]:
        if model is None:
            if not kind.optional:
                raise InvalidParameters(
                    Problem("", f"function inputs {[key]} not provided: the job has no model file")
                )
            continue
        extension = _extension(model_name or model.name)
        if not _may_be(extension, kind):
            raise InvalidParameters(Problem(key, f"must be a file of {' or '.join(kind.validation_types)}"))
        place = folders.given / f"model{extension}"
        shutil.copyfile(model, place)
        inputs[key] = {"type": kind.type, "value": str(place)}
    for number, (key, path) in enumerate(function.credentials.items()):
        place = folders.secret / f"credential-{number}"
        try:
            place.touch(mode=0o600)
            place.write_bytes(path.read_bytes())
        except OSError as error:
            what = f"the credential {key!r} of this host cannot be read: {error.strerror}"
            raise ExecutionFailed(what, reason="function_not_started") from error
        inputs[key] = {"type": "auth_info", "value": str(place)}
    folders.input_file.write_text(strict_json.dumps(inputs), encoding="utf-8")


def collect(function: Function, folders: Folders, output: Path) -> tuple[Made, ...]:
    """
    Bring what the function says it made into *output*; a folder becomes a zip file.

    Raises:
        ExecutionFailed: the output file is not there or not what it should be, a required output is missing, a path
            leads out of the function's folder, or all together are larger than the host allows.
    """
    said = _said(folders.output_file)
    if missing := [one.name for one in function.outputs if one.required and one.name not in said]:
        raise ExecutionFailed(f"the function made no output {missing[0]!r}", reason="function_missing_output")
    known = {one.name: one for one in function.outputs}
    left, made = function.most_output_bytes, list[Made]()
    for key, (kind, path) in said.items():
        if function.outputs and (key not in known or known[key].type != kind):
            raise _wrong(f"names an output that its manifest has not, {key!r} of type {kind}")
        source = _inside(folders, path)
        with _names_that_can_be_kept():
            left -= sum(file.stat().st_size for file in _files_of(source))
            if left < 0:
                raise ExecutionFailed(
                    f"the function's outputs have more than {function.most_output_bytes} bytes",
                    reason="function_output_too_large",
                )
            name = source.name + (".zip" if kind == "directory" else "")
            if any(name == one.name for one in made):
                raise _wrong(f"has two outputs with the file name {name!r}")
            name.encode()
            told = known.get(key, Output(name="output"))
            made.append(Made(key, kind, name, told.is_model, told.version_of))
            _bring(source, kind, output / name)
    return tuple(made)


@contextmanager
def _names_that_can_be_kept() -> Iterator[None]:
    """A file system takes names that no answer and no archive does, and folders deeper than any path."""
    try:
        yield
    except UnicodeEncodeError:
        raise _wrong("leads to a file whose name is not UTF-8") from None
    except RecursionError:
        raise _wrong("leads to folders that are too deep") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise _wrong("leads to a file whose name is too long") from None


def _bare(value: Any) -> Any:
    """Parameters come bare, or wrapped as the input file has them."""
    if isinstance(value, dict) and "value" in value and value.keys() <= {"value", "type"}:
        return value["value"]
    return value


def _cannot_come(function: Function, key: str, kind: Input) -> bool:
    """A credential is nothing that a job can bring here; it is this host's own."""
    return kind.type == "auth_info" and not kind.optional and key not in function.credentials


def _fits(value: Any, kind: Input) -> bool:
    allowed = [types for name, types in _KINDS.items() if name in kind.validation_types]
    return not allowed or any(
        isinstance(value, types) and (bool in types or not isinstance(value, bool)) for types in allowed
    )


def _extension(name: str) -> str:
    """Of a name that its owner made up: taken only when it is plain."""
    found = Path(name.replace("\\", "/")).suffix
    return found.lower() if _EXTENSION.fullmatch(found) else ""


def _may_be(extension: str, kind: Input) -> bool:
    allowed = [name.removeprefix("@extension:") for name in kind.validation_types if name.startswith("@extension:")]
    return not allowed or extension.removeprefix(".") in (name.lower().removeprefix(".") for name in allowed)


def _said(path: Path) -> dict[str, tuple[str, str]]:
    """The type and path of each output by its name."""
    if path.is_symlink() or not path.is_file():
        raise ExecutionFailed("the function wrote no output file", reason="function_no_output")
    with path.open("rb") as file:
        raw = file.read(_MAX_LIST_BYTES + 1)
    try:
        lines = strict_json.loads(raw) if len(raw) <= _MAX_LIST_BYTES else None
    except strict_json.NotJson as error:
        raise _wrong(f"is not JSON: {error}") from error
    if not isinstance(lines, list):
        raise _wrong("is not an array of outputs")
    said: dict[str, tuple[str, str]] = {}
    for line in lines:
        name, kind, place = (
            [line.get(key) for key in ("name", "type", "path")] if isinstance(line, dict) else [None] * 3
        )
        if not (isinstance(name, str) and isinstance(place, str) and kind in ("file", "directory")):
            raise _wrong("has an entry without a name, a path, and a type of 'file' or 'directory'")
        if name in said:
            raise _wrong(f"names the output {name!r} twice")
        said[name] = (kind, place)
    return said


def _inside(folders: Folders, path: str) -> Path:
    try:
        found = (folders.temp / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise _wrong("names a path where nothing is") from None
    if not found.is_relative_to(folders.temp.resolve()) or found == folders.temp.resolve():
        raise _wrong("names a path outside of the function's temporary folder")
    return found


def _files_of(source: Path) -> Iterator[Path]:
    """The regular files that *source* is or holds, no link followed; sorted, so that archives are alike."""
    if source.is_file():
        yield source
        return
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    if len(files) > _MOST_FILES:
        raise _wrong(f"has a folder of more than {_MOST_FILES} files")
    yield from files


def _bring(source: Path, kind: str, target: Path) -> None:
    if (kind == "file") != source.is_file() or (kind == "directory") != source.is_dir():
        raise _wrong(f"names something that is no {kind}")
    if kind == "file":
        # A copy, for a file with a second name elsewhere could change after its digest was taken.
        shutil.copyfile(source, target)
        return
    with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        for file in _files_of(source):
            # No times: the same files make the same archive.
            entry = zipfile.ZipInfo(str(file.relative_to(source)))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open("rb") as content, archive.open(entry, "w") as packed:
                shutil.copyfileobj(content, packed)


def _wrong(what: str) -> ExecutionFailed:
    return ExecutionFailed(f"the function's output file {what}", reason=INVALID_OUTPUT)
