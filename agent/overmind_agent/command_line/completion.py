"""Scripts that complete a command line in bash, zsh and fish; made from its grammar by shtab."""

from __future__ import annotations

import argparse

import shtab


def script(grammar: argparse.ArgumentParser, shell: str) -> str:
    """What *shell* (`bash`, `zsh` or `fish`) reads to complete the commands of *grammar*."""
    return str(shtab.complete(grammar, shell))
