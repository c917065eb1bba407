"""What the settings let this agent put on its disk, against what is there: to be said before a job finds out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from overmind_agent.host.disk import RESERVE_BYTES
from overmind_agent.journal.journal import WAITING_BYTES
from overmind_config.settings import Settings

HINT: Final = "make room, lower what jobs may take, or run fewer of them; a disk that fills up fails its job"


def wanted_bytes(settings: Settings) -> int:
    """
    What may be needed at once: the outbox, the reserve, input and result of a job in every slot, results that stay.

    What has no limit is not counted.
    """
    policy, agent = settings.policy, settings.agent
    of_a_job = (policy.max_input_bytes or 0) + (policy.max_result_bytes or 0)
    stays = agent.results_max_bytes if settings.control_plane.adapter == "overmind-lab" else 0
    return WAITING_BYTES + RESERVE_BYTES + agent.slots * of_a_job + stays


def too_little(folder: Path, settings: Settings) -> str | None:
    """Why the disk of *folder* may not do, with both numbers; None when it will."""
    found = os.statvfs(folder)
    free_bytes, most_bytes = found.f_bavail * found.f_frsize, wanted_bytes(settings)
    if most_bytes <= free_bytes:
        return None
    return f"the settings let jobs and results take {most_bytes:,} bytes, and {free_bytes:,} are free"
