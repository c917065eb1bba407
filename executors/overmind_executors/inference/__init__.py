"""The job type `inference`: run a target over a data set."""

from overmind_executors.inference.executor import InferenceExecutor

__all__ = ["InferenceExecutor"]
