"""
Modules: folders with a `module_manifest.json` and a command, in the form of the published client.

```
<folder>/module_manifest.json ─▶ NewModuleManifest ─▶ one Function for each of its functions, for this host
```

The owner of a host says which folders there are, so a manifest is trusted to name a command; it is read strictly
all the same, so that a mistake is found when the agent starts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from overmind_executors import strict_json

MANIFEST: Final = "module_manifest.json"
CONFIGURATION: Final = "module_config.json"
RESERVED_SCOPE: Final = "@overmind:"
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_NEEDED: Final = frozenset({"entrypoint", "input_file", "output_file", "temp_dir"})
# Two names for one thing: the vendor's documentation has the first, its own modules have the second.
_CONFIGURATION: Final = frozenset({"module_config", "config_path"})
_KNOWN: Final = _NEEDED | _CONFIGURATION | {"function_name"}
_MAX_BYTES: Final = 1 << 20
_NO_NUL: Final = r"^[^\x00]*$"  # no path and no command line can hold one

Key = Annotated[str, Field(pattern=r"^[A-Za-z_@][A-Za-z0-9_.:@/-]{0,254}$")]


class BadManifest(Exception):
    """A module cannot be used. Names the folder and what is wrong."""


class _Read(BaseModel):
    """Strict about what is read; keys that other readers know are none of ours."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Input(_Read):
    """One input of a function. `type` is what the input file says of it."""

    type: Literal["user_model", "user_link", "parameter", "auth_info"]
    validation_types: tuple[str, ...] = Field(default=(), strict=False)
    optional: bool = False

    @property
    def is_file(self) -> bool:
        """Whether a file of the job's fills it: a model, or a file that holds a link, which is given as it is."""
        return self.type in ("user_model", "user_link")


class Output(_Read):
    """
    One output that a function may or must make.

    Attributes:
        version_of: the key of the input whose file it is a newer form of; it is uploaded as a model of its own.
    """

    name: Key
    type: Literal["file", "directory"] = "file"
    required: bool = True
    upload_as: Literal["artifact", "model"] = "artifact"
    version_of: Key | None = None

    @property
    def is_model(self) -> bool:
        """Whether it is to be a model file, too."""
        return self.upload_as == "model" or self.version_of is not None


class _Schema(_Read):
    inputs: dict[Key, Input] = {}
    outputs: tuple[Output, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _versions_are_of_files(self) -> _Schema:
        files = {key for key, kind in self.inputs.items() if kind.is_file}
        if unknown := [one.name for one in self.outputs if one.version_of not in {None, *files}]:
            raise ValueError(f"output {unknown[0]!r} is a version of an input that is no file of the function's")
        return self


class _Variant(_Read):
    entrypoint: Annotated[str, Field(min_length=1, max_length=4096, pattern=_NO_NUL)]
    run_command: Annotated[str, Field(min_length=1, max_length=4096, pattern=_NO_NUL)]
    function_schema: _Schema | None = None
    operating_systems: tuple[str, ...] = Field(default=(), strict=False)

    @field_validator("run_command")
    @classmethod
    def _check_command(cls, text: str) -> str:
        named = set(PLACEHOLDER.findall(text))
        if unknown := named - _KNOWN:
            raise ValueError(f"has a placeholder {{{sorted(unknown)[0]}}} that nobody fills")
        if missing := _NEEDED - named:
            raise ValueError(f"has no {{{sorted(missing)[0]}}}")
        shlex.split(text)  # raises ValueError for a quotation mark without its other half
        return text


class _Manifest(_Read):
    module_version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{1,64}$")]
    functions: Annotated[dict[Key, Annotated[tuple[_Variant, ...], Field(strict=False, min_length=1)]], Field()]


class Function(BaseModel):
    """
    One registered function, ready to run.

    Attributes:
        name: how jobs ask for it.
        command: the words of `run_command` with their placeholders; never given to a shell.
        entrypoint: absolute, or the name of a command.
        inputs: by key; None when the manifest does not say, and everything is passed on.
        configuration: the module's configuration file, None for none.
        folder: the module's, which the command may read wherever it runs.
        credentials: the files of this host for its inputs of type `auth_info`, by key.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    module_version: str
    command: tuple[str, ...]
    entrypoint: str
    inputs: dict[str, Input] | None = None
    outputs: tuple[Output, ...] = ()
    configuration: Path | None = None
    folder: Path | None = None
    credentials: dict[str, Path] = {}
    timeout_s: float = 600.0
    most_output_bytes: int = 1 << 30

    def file_inputs(self) -> list[tuple[str, Input]]:
        """
        The inputs that are files, by key. A job brings one, and the first of these is it: what has to be there
        before what may be left out, a model before a link.
        """
        if self.inputs is None:
            return [("model", Input(type="user_model", optional=True))]
        found = [(key, kind) for key, kind in self.inputs.items() if kind.is_file]
        return sorted(found, key=lambda one: (one[1].optional, one[1].type != "user_model"))


def read_modules(
    folders: Sequence[Path],
    *,
    host_os: str,
    timeout_s: float,
    most_output_bytes: int,
    credentials: Mapping[str, Path] | None = None,
) -> tuple[Function, ...]:
    """
    The functions of all modules in *folders*, each a module's folder or a folder of such.

    Args:
        host_os: such as `Debian GNU/Linux 12`; the variant for it is chosen, else the first that is for a Linux.
        credentials: files for inputs of type `auth_info`, by the input's key.

    Raises:
        BadManifest: a folder has no module, a manifest cannot be used, or two modules have one function.
    """
    found: dict[str, Function] = {}
    for folder in (module for given in folders for module in _modules_in(given)):
        manifest = _read(folder / MANIFEST)
        for name, variants in manifest.functions.items():
            if name.startswith(RESERVED_SCOPE) or name in found:
                why = "a name of our own" if name.startswith(RESERVED_SCOPE) else "another module has it too"
                raise BadManifest(f"{folder}: function {name!r}: {why}")
            variant = _variant_for(host_os, variants)
            if variant is None:
                raise BadManifest(f"{folder}: function {name!r} has no variant for Linux")
            schema = variant.function_schema
            found[name] = Function(
                name=name,
                module_version=manifest.module_version,
                command=tuple(shlex.split(variant.run_command)),
                entrypoint=_entrypoint(folder, variant.entrypoint),
                inputs=schema.inputs if schema else None,
                outputs=schema.outputs if schema else (),
                configuration=_configuration(folder, variant),
                folder=folder,
                credentials=_credentials(schema, credentials or {}),
                timeout_s=timeout_s,
                most_output_bytes=most_output_bytes,
            )
    return tuple(found.values())


def _credentials(schema: _Schema | None, given: Mapping[str, Path]) -> dict[str, Path]:
    inputs = schema.inputs if schema else {}
    return {key: given[key] for key, kind in inputs.items() if kind.type == "auth_info" and key in given}


def _modules_in(folder: Path) -> list[Path]:
    if (folder / MANIFEST).is_file():
        return [folder]
    try:
        found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}") if path.is_file())
    except OSError as error:
        raise BadManifest(f"{folder}: cannot be read: {error.strerror}") from error
    if not found:
        raise BadManifest(f"{folder}: there is no {MANIFEST} in it, nor in a folder in it")
    return found


def _read(path: Path) -> _Manifest:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise BadManifest(f"{path}: more than {_MAX_BYTES} bytes")
        return _Manifest.model_validate(strict_json.loads(raw))
    except OSError as error:
        raise BadManifest(f"{path}: cannot be read: {error.strerror}") from error
    except strict_json.NotJson as error:
        raise BadManifest(f"{path}: {error}") from error
    except ValidationError as error:
        wrong = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise BadManifest(f"{path}: {'; '.join(wrong)}") from None


def _variant_for(host_os: str, variants: Sequence[_Variant]) -> _Variant | None:
    exact = [variant for variant in variants if host_os in variant.operating_systems]
    foreign = ("windows", "macos", "darwin")
    for_linux = [
        variant
        for variant in variants
        if not variant.operating_systems
        or any(not name.lower().startswith(foreign) for name in variant.operating_systems)
    ]
    return next(iter([*exact, *for_linux]), None)


def _entrypoint(folder: Path, given: str) -> str:
    """A file of the module, else the name of a command that the search path has."""
    try:
        inside = (folder / given).resolve()
        if inside.is_file() and inside.is_relative_to(folder.resolve()):
            return str(inside)
    except OSError as error:  # such as a name that is too long for any file
        raise BadManifest(f"{folder}: entrypoint {given[:64]!r} cannot be looked at: {error.strerror}") from error
    if Path(given).name == given and not given.startswith("-"):
        return given
    raise BadManifest(f"{folder}: entrypoint {given!r} is neither a file of the module nor a command's name")


def _configuration(folder: Path, variant: _Variant) -> Path | None:
    found = (folder / CONFIGURATION).resolve()
    if found.is_file():
        return found
    if _CONFIGURATION.isdisjoint(PLACEHOLDER.findall(variant.run_command)):
        return None
    raise BadManifest(f"{folder}: its command asks for a configuration file; put one there as {CONFIGURATION}")


def values_of(function: Function, places: Mapping[str, Any]) -> list[str]:
    """The command line: the manifest's words, placeholders filled in one pass, so that no value is read again."""
    values = {"entrypoint": function.entrypoint, "function_name": function.name, **places}
    for name in _CONFIGURATION:
        values[name] = function.configuration or ""
    return [PLACEHOLDER.sub(lambda found: str(values[found[1]]), word) for word in function.command]
