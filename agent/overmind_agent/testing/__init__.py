"""
For tests: a control plane in memory that refuses what the real one refuses, and a clock that only moves when told.

    server = FakeServer()
    job_id = server.submit("inference", {"prompt": "…"})
    plane = FakeControlPlane(server)
    plane.register(None)
    claim = plane.claim(plane.next_job(wait_s=0), key="k")

What should go wrong is said beforehand: `server.script("report", TransientError("down", verb="report"), AFTER)`
fails the first report before it takes effect, and the second after. An executor is tried with an `ExecutorBench`,
and with an `ExecutorContract` held to what all have to hold.
"""

from overmind_agent.testing.clock import VirtualClock
from overmind_agent.testing.executor_bench import ExecutorBench
from overmind_agent.testing.executor_contract import ExecutorContract
from overmind_agent.testing.fake_control_plane import FakeControlPlane
from overmind_agent.testing.fake_server import AFTER, Beat, FakeJob, FakeServer, conflict

__all__ = [
    "AFTER",
    "Beat",
    "ExecutorBench",
    "ExecutorContract",
    "FakeControlPlane",
    "FakeJob",
    "FakeServer",
    "VirtualClock",
    "conflict",
]
