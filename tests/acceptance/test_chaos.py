"""
The rules about histories hold, whatever the nemesis does: a share in `make test`, everything in `make chaos`.

Each profile also says what must have happened for it to have tried anything at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import chaos
import pytest
import requests
from chaos import Profile, Ran

from overmind_agent.lifecycle import Status
from overmind_agent.testing.invariants import violations
from server import ControlPlaneProcess, start_control_plane

Exercised = Callable[[Ran], bool]


@dataclass(frozen=True)
class Try:
    """A profile, and whether it tried what it is for."""

    profile: Profile
    is_exercised: Exercised


def _much_was_done_to_them(ran: Ran) -> bool:
    did = ran.done
    return (
        did["kill agent"] >= 100
        and did["freeze agent"] >= 25
        and did["kill server"] >= 15
        and sum(ran.faults.values()) >= 600
        and len(ran.faults) >= 11
    )


GENERAL = Profile(
    agents=8,
    jobs=600,
    lease_s=20.0,
    faults=0.2,
    every_s={"kill": 0.7, "freeze": 2.5, "kill server": 5.0},
    storm_s=150.0,
    patience_s=400.0,
)
ZOMBIE = Profile(
    agents=6, slots=1, jobs=60, work_s=(1.0, 3.0), lease_s=3.0, every_s={"freeze": 0.9}, freeze_s=(3.0, 6.0)
)

WHOLE: dict[str, Try] = {
    "general": Try(GENERAL, _much_was_done_to_them),
    "zombie": Try(ZOMBIE, lambda ran: ran.refused["superseded"] >= 20 and ran.done["freeze agent"] >= 40),
    "flaky": Try(Profile(agents=4, jobs=60, faults=0.3), lambda ran: sum(ran.faults.values()) >= 100),
    "server": Try(
        Profile(agents=4, jobs=120, every_s={"kill server": 4.0}), lambda ran: ran.done["kill server"] >= 2
    ),
    "two projects": Try(
        replace(
            GENERAL,
            agents=4,
            jobs=80,
            projects=2,
            lease_s=30.0,
            every_s={"kill": 6.0, "freeze": 8.0, "kill server": 20.0},
        ),
        lambda ran: ran.done["kill agent"] >= 3 and sum(ran.faults.values()) >= 10,
    ),
    "children": Try(
        Profile(agents=4, jobs=60, work_s=(0.5, 1.0), every_s={"kill child": 0.7}),
        lambda ran: ran.done["kill child agent"] >= 5,
    ),
}
SHARE: dict[str, Try] = {
    "general": Try(
        replace(
            GENERAL,
            agents=3,
            lease_s=10.0,
            jobs=24,
            faults=0.12,  # a job makes few calls
            every_s={"kill": 2.5, "freeze": 4.0, "kill server": 5.0},
            storm_s=8.0,
        ),
        lambda ran: ran.done["kill agent"] >= 1 and sum(ran.faults.values()) >= 5,
    ),
    "zombie": Try(
        replace(ZOMBIE, agents=3, jobs=8, lease_s=2.0, every_s={"freeze": 0.7}, freeze_s=(2.0, 3.5), storm_s=8.0),
        lambda ran: ran.done["freeze agent"] >= 2,
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attempt" in metafunc.fixturenames:
        tries = WHOLE if metafunc.config.getoption("--chaos") else SHARE
        metafunc.parametrize("attempt", tries.values(), ids=list(tries))


@contextmanager
def _plane(folder: Path, lease_s: float) -> Iterator[ControlPlaneProcess]:
    with start_control_plane(folder, lease_s=lease_s, arguments=("--rate-limit", "0")) as plane:
        yield plane


@pytest.mark.timeout(600)
def test_no_rule_is_broken(tmp_path: Path, attempt: Try, seed: int) -> None:
    with _plane(tmp_path, attempt.profile.lease_s) as plane:
        ran = chaos.run(attempt.profile, seed, tmp_path, plane)
    print(f"seed {seed}: {ran}")  # noqa: T201 - shown by `make chaos`, and when it fails
    assert [] == ran.strange

    assert [] == [str(violation) for violation in violations(ran.history)]
    assert attempt.is_exercised(ran), f"it tried too little: {ran}"
    if not attempt.profile.every_s:  # a bad network alone only delays
        assert {"Completed": attempt.profile.jobs} == ran.ends


@pytest.mark.timeout(300)
def test_what_is_said_three_times_is_heard_once(tmp_path: Path, is_whole: bool, seed: int) -> None:
    """Every request is sent three times: the record is that of an undisturbed run."""
    profile = Profile(agents=2, jobs=60 if is_whole else 8, lease_s=60.0)
    found = []
    for name, plan in (("once", None), ("thrice", lambda _request: "thrice")):
        folder = tmp_path / name
        folder.mkdir()
        with _plane(folder, profile.lease_s) as plane:
            ran = chaos.run(profile, seed, folder, plane, plan=plan)
        assert [] == [str(violation) for violation in violations(ran.history)]
        files = sorted((file.name, file.sha256 == file.found_sha256) for file in ran.history.stored)
        found.append((list(ran.history.shape().values()), files))

    assert found[0] == found[1]


LIES: dict[str, Callable[[random.Random, dict[str, Any]], tuple[str, dict[str, str]]]] = {
    # An agent that holds nothing says how it goes: a status, and headers.
    "a status out of the blue": lambda draw, _job: (draw.choice(list(Status)).value, {}),
    "the right attempt": lambda _draw, job: ("Completed", {"Overmind-Attempt": str(job["attempt"])}),
    "an attempt to come": lambda _draw, job: ("Running", {"Overmind-Attempt": str(job["attempt"] + 1)}),
    "a huge sequence": lambda _draw, job: (
        "Completed",
        {"Overmind-Attempt": str(job["attempt"]), "Overmind-Sequence": str(2**31)},
    ),
    "a release": lambda _draw, job: ("Pending", {"Overmind-Attempt": str(job["attempt"])}),
    "a failure": lambda _draw, job: ("Failed", {"Overmind-Attempt": str(job["attempt"]), "Overmind-Sequence": "1"}),
}


class Liar:
    """An agent of the same project that holds nothing and speaks about everything."""

    def __init__(self, plane: ControlPlaneProcess, seed: int) -> None:
        self._plane = plane
        self._draw = random.Random(f"liar/{seed}")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {plane.agent_token}"
        body = {"agent_version": "1", "host_os": "none", "capabilities": ["lease", "fence", "job_type:nothing"]}
        self._id = self._call("POST", "/api/v2/agents", json=body).json()["id"]
        self.told = 0
        self.believed: list[str] = []

    def lie(self, _now_s: float) -> None:
        """Say something about each of a few jobs."""
        listed = self._call("GET", "/api/v2/jobs", params={"size": 50}).json()["items"]
        held = [job for job in listed if job["status_history"][-1]["name"] not in ("Created", "Pending")]
        for job in self._draw.sample(held, min(3, len(held))):
            name = self._draw.choice(list(LIES))
            status, headers = LIES[name](self._draw, job)
            if status == "Claimed":
                continue
            asked = {"status_name": status, "agent_id": self._id}
            answer = self._call("PUT", f"/api/v2/jobs/{job['id']}/status", params=asked, headers=headers, json={})
            self.told += 1
            if answer.ok:
                self.believed.append(
                    f"{name}: {status} of a job that is {job['status_history'][-1]['name']}: {answer.text[:200]}"
                )

    def close(self) -> None:
        self._session.close()

    def _call(self, verb: str, path: str, **more: Any) -> requests.Response:
        return self._session.request(verb, self._plane.url + path, timeout=30, **more)


@pytest.mark.timeout(300)
def test_an_agent_that_lies_is_not_believed(tmp_path: Path, is_whole: bool, seed: int) -> None:
    profile = Profile(agents=2, jobs=60 if is_whole else 8, work_s=(0.2, 0.6))
    with _plane(tmp_path, profile.lease_s) as plane:
        liar = Liar(plane, seed)
        ran = chaos.run(profile, seed, tmp_path, plane, meanwhile=liar.lie)
        liar.close()

    assert [] == liar.believed
    assert liar.told > 10
    assert [] == [str(violation) for violation in violations(ran.history)]
    assert {"Completed": profile.jobs} == ran.ends
