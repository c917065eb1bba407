"""The job type `prompt_tuning`: a better prompt, claimed only behind a test on rows that the search never saw."""

from overmind_executors.tuning.executor import PromptTuningExecutor

__all__ = ["PromptTuningExecutor"]
