"""What a check of this host finds, and how it says that something is not as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warning", "failed"]

Check = Callable[[], str]
"""Answers with what it found, or raises `Failed`, or an error of ours."""


@dataclass(frozen=True)
class Finding:
    """What one check found; `code` is stable, `hint` is empty when nothing needs to be done."""

    code: str
    grade: Grade
    message: str
    hint: str = ""


class Failed(Exception):
    """A check's bad news."""

    def __init__(self, message: str, hint: str, *, grade: Grade = "failed") -> None:
        super().__init__(message)
        self.hint = hint
        self.grade: Grade = grade
