"""The job type `judge_scoring`: score outputs with deterministic evaluators and with chat models as judges."""

from overmind_executors.judge_scoring.executor import JudgeScoringExecutor

__all__ = ["JudgeScoringExecutor"]
