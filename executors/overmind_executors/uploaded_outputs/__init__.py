"""The job type `uploaded_outputs_setup`: outputs that were made elsewhere become rows that can be judged."""

from overmind_executors.uploaded_outputs.executor import UploadedOutputsExecutor

__all__ = ["UploadedOutputsExecutor"]
