"""Functions on a model file: commands that the host's owner has registered by manifest."""

from overmind_executors.functions.executor import FunctionExecutor
from overmind_executors.functions.manifest import BadManifest, Function, read_modules

__all__ = ["BadManifest", "Function", "FunctionExecutor", "read_modules"]
