"""The control plane over HTTP: what is sent for each verb, how its answer is read, and life without extensions."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import responses

import wire_samples as sample
from agent_parts import a_result_file
from overmind_agent import __version__
from overmind_agent.errors import (
    AuthError,
    ClaimLost,
    InvalidInput,
    ProtocolError,
    RejectedError,
    TransientError,
    UploadError,
)
from overmind_agent.jobs import (
    Claim,
    Directive,
    Held,
    Job,
    Lease,
    NoJob,
    Orders,
    Progress,
    RemoteFile,
    ResultFile,
    StatusUpdate,
)
from overmind_agent.lifecycle import LIFECYCLE, Status
from overmind_agent.over_http.calls import HttpCalls, content_digest
from overmind_agent.over_http.client import HttpControlPlane
from overmind_agent.over_http.downloads import PARAMETERS
from overmind_agent.wire import EXTENSIONS, INLINE_BYTES

BASE = "https://plane.example"
API = f"{BASE}/api/v2"
AGENT = f"{API}/agents/{sample.AGENT_ID}"
JOB = f"{API}/jobs/{sample.JOB_ID}"
BLOB = "https://blobs.example/1?signature=x"

FILE = RemoteFile("parameters.json", sample.SHA, sample.SALT, 18, sample.REVISION_ID)
THE_JOB = Job(
    sample.JOB_ID,
    "inference",
    FILE,
    sample.MODEL_ID,
    Status.PENDING,
    project="tenant-1",
    function_version="1.0.0",
    display_name="nightly",
)
CLAIM = Claim(THE_JOB, 2, Lease(60.0))
UPDATE = StatusUpdate(sample.JOB_ID, 2, 3, Status.FAILED, "timeout: too long", {"reason": "timeout"})
HELD = Held(sample.JOB_ID, 2, Progress(1, 2, "rows"))


class Site:
    """What the control plane answers, and what it was sent."""

    def __init__(self, mocked: responses.RequestsMock) -> None:
        self._mocked = mocked

    def answers(self, method: str, url: str, document: Any = None, status: int = 200, **more: Any) -> None:
        """*url* answers with *document* as JSON, or as it is when it is bytes."""
        body = document if isinstance(document, bytes) else sample.encode({} if document is None else document)
        settings = {"content_type": "application/json", "auto_calculate_content_length": True, **more}
        self._mocked.add(method, url, body=body, status=status, **settings)

    def breaks(self, method: str, url: str) -> None:
        """The connection to *url* ends without an answer."""
        self._mocked.add(method, url, body=ConnectionError("reset"))

    @property
    def sent(self) -> list[Any]:
        """The requests but the one for the capabilities, in order."""
        return [call.request for call in self._mocked.calls if not str(call.request.url).endswith("/capabilities")]

    @property
    def asked(self) -> list[str]:
        """Their methods and paths."""
        return [f"{request.method} {request.url.partition('?')[0].removeprefix(API)}" for request in self.sent]

    def body(self, number: int = -1) -> Any:
        """The JSON of one of them; None when it was empty."""
        raw = self.sent[number].body
        return json.loads(raw) if raw else None


@pytest.fixture
def site() -> Iterator[Site]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        yield Site(mocked)


@pytest.fixture
def make_plane() -> Iterator[Callable[..., HttpControlPlane]]:
    made: list[HttpCalls] = []

    def make(agent_id: str | None = sample.AGENT_ID, job_types: Sequence[str] = ("inference",)) -> HttpControlPlane:
        made.append(HttpCalls(BASE, lambda: "ovr_secret"))
        return HttpControlPlane(
            made[-1], job_types=job_types, display_name="host-1", slots=2, agent_id=lambda: agent_id
        )

    yield make
    for calls in made:
        calls.close()


@pytest.fixture
def plane(site: Site, make_plane: Callable[..., HttpControlPlane]) -> HttpControlPlane:
    """Against a server that has every extension but the one that spares small files addresses of their own."""
    known = [name for name in EXTENSIONS if name != "inline_files"]
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": known})
    return make_plane()


@pytest.fixture
def newest(site: Site, make_plane: Callable[..., HttpControlPlane]) -> HttpControlPlane:
    """Against a server that has every extension."""
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": list(EXTENSIONS)})
    return make_plane()


@pytest.fixture
def plain(site: Site, make_plane: Callable[..., HttpControlPlane]) -> HttpControlPlane:
    """Against a server that has none."""
    site.answers("GET", f"{API}/capabilities", {"detail": "Not Found"}, 404)
    return make_plane()


Verb = Callable[[HttpControlPlane, Path], object]
# How each verb is called, the call that decides, and whether that one is about a job.
VERBS: Mapping[str, tuple[Verb, str, str, bool]] = {
    "register": (lambda plane, _: plane.register(None), "POST", f"{API}/agents", False),
    "next_job": (lambda plane, _: plane.next_job(wait_s=1), "GET", f"{AGENT}/job", False),
    "claim": (lambda plane, _: plane.claim(THE_JOB, key="k"), "PUT", f"{JOB}/status", True),
    "report": (lambda plane, _: plane.report(UPDATE), "PUT", f"{JOB}/status", True),
    "heartbeat": (
        lambda plane, _: plane.heartbeat([HELD], draining=False, wait_s=1),
        "POST",
        f"{AGENT}/heartbeat",
        False,
    ),
    "input_file": (lambda plane, _: plane.input_file(THE_JOB), "GET", f"{API}/models/{sample.MODEL_ID}", False),
    "append_log": (lambda plane, _: plane.append_log(CLAIM, offset=0, data=b"x"), "PUT", f"{JOB}/logs", True),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("status", "of_the_agent", "of_a_job"),
    [
        (400, RejectedError, RejectedError),
        (401, AuthError, AuthError),
        (403, AuthError, AuthError),
        (404, RejectedError, ClaimLost),
        (409, RejectedError, ClaimLost),
        (410, RejectedError, ClaimLost),
        (422, RejectedError, ClaimLost),
        (423, RejectedError, ClaimLost),
        (429, TransientError, TransientError),
        (500, TransientError, TransientError),
        (503, TransientError, TransientError),
        (302, TransientError, TransientError),
        (204, TransientError, TransientError),
    ],
)
def test_a_refusal_means_this_to_a_verb(
    site: Site,
    plane: HttpControlPlane,
    tmp_path: Path,
    verb: str,
    status: int,
    of_the_agent: type[Exception],
    of_a_job: type[Exception],
) -> None:
    call, method, url, is_on_job = VERBS[verb]
    site.answers(method, url, b"" if status == 204 else {"detail": "no"}, status)

    with pytest.raises((RejectedError, TransientError)) as caught:
        call(plane, tmp_path)

    assert (of_a_job if is_on_job else of_the_agent) is type(caught.value)
    assert (verb, status) == (_known(caught.value.verb), caught.value.http_status)


def _known(verb: str) -> str:
    """The port's name for what the client calls *verb*."""
    return {"read_model": "input_file"}.get(verb, verb)


@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_that_does_not_fit_is_a_protocol_error(
    site: Site, plane: HttpControlPlane, tmp_path: Path, verb: str
) -> None:
    call, method, url, _ = VERBS[verb]
    site.answers(method, url, {"hello": 1})

    if verb == "report":
        call(plane, tmp_path)  # its answer is not read: the status was taken
    else:
        with pytest.raises(ProtocolError, match="field required"):
            call(plane, tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_a_login_page_is_not_an_answer(site: Site, plane: HttpControlPlane, tmp_path: Path, verb: str) -> None:
    call, method, url, _ = VERBS[verb]
    site.answers(method, url, b"<html>sign in</html>", content_type="text/html")

    with pytest.raises(TransientError, match="not JSON"):
        call(plane, tmp_path)


# ------------------------------------------------------------------------------------ the agent itself


def accept_an_agent(site: Site) -> None:
    for path in ("modules", "display_name", "status"):
        site.answers("PUT", f"{AGENT}/{path}")


def test_a_new_agent_says_what_it_is_and_what_it_can_do(site: Site, plane: HttpControlPlane) -> None:
    site.answers("POST", f"{API}/agents", {"id": sample.AGENT_ID, "created": sample.NOW}, 201)
    accept_an_agent(site)

    agent_id = plane.register(None)

    at = f"/agents/{sample.AGENT_ID}"
    assert sample.AGENT_ID == agent_id
    assert ["POST /agents", f"PUT {at}/modules", f"PUT {at}/display_name", f"PUT {at}/status"] == site.asked
    assert __version__ == site.body(0)["agent_version"]
    assert ["lease", "fence", "job_type:inference"] == site.body(0)["capabilities"]
    assert [{"module_name": "@overmind:executors", "module_version": "1.0.0"}] == site.body(1)
    assert ({"display_name": "host-1"}, {"name": "Idle"}) == (site.body(2), site.body(3))


def test_a_known_agent_keeps_its_id(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", AGENT, {"id": sample.AGENT_ID, "created": sample.NOW})
    accept_an_agent(site)

    assert sample.AGENT_ID == plane.register(sample.AGENT_ID)
    assert f"PUT /agents/{sample.AGENT_ID}" == site.asked[0]


def test_a_forgotten_agent_asks_for_the_id_that_it_had(site: Site, plane: HttpControlPlane) -> None:
    """And takes the one that it gets: a server may have reasons to give another."""
    site.answers("PUT", f"{API}/agents/old", {"detail": "no such agent"}, 404)
    site.answers("POST", f"{API}/agents", {"id": sample.AGENT_ID, "created": sample.NOW}, 201)
    accept_an_agent(site)

    assert sample.AGENT_ID == plane.register("old")
    assert "old" == next(site.body(n) for n, told in enumerate(site.asked) if told == "POST /agents")["agent_id"]


@pytest.mark.parametrize("agent_id", ["../../admin", "a/b", "", "a?b"])
def test_an_agent_id_that_is_none_is_refused(site: Site, plane: HttpControlPlane, agent_id: str) -> None:
    site.answers("POST", f"{API}/agents", {"id": agent_id, "created": sample.NOW}, 201)

    with pytest.raises(ProtocolError, match="not a Agent: id"):
        plane.register(None)


def test_before_it_is_registered_an_agent_cannot_ask(make_plane: Callable[..., HttpControlPlane]) -> None:
    with pytest.raises(ProtocolError, match="not registered yet"):
        make_plane(None).next_job(wait_s=0)


@pytest.mark.parametrize(("models", "named"), [(2, ["model:0", "model:1", "project:ours"]), (61, [])])
def test_an_agent_says_what_else_it_has_and_all_of_its_models_and_projects_or_none(
    site: Site, models: int, named: list[str]
) -> None:
    """One that names some is offered no jobs of the others."""
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": list(EXTENSIONS)})
    site.answers("PUT", AGENT, {"id": sample.AGENT_ID, "created": sample.NOW})
    accept_an_agent(site)
    calls = HttpCalls(BASE, lambda: "ovr_secret")
    plane = HttpControlPlane(
        calls,
        job_types=["inference"],
        display_name="host-1",
        slots=2,
        agent_id=lambda: sample.AGENT_ID,
        capabilities=["label:gpu", *(f"model:{number}" for number in range(models)), "project:ours"],
    )

    plane.register(sample.AGENT_ID)
    calls.close()

    said = site.body(0)["capabilities"]
    assert ["lease", "fence", "job_type:inference", "label:gpu", *named] == said


def test_the_capabilities_are_asked_for_once(site: Site, plane: HttpControlPlane) -> None:
    site.answers("GET", f"{AGENT}/job", {"message": "no job"})

    plane.next_job(wait_s=0)
    plane.next_job(wait_s=0)

    assert 3 == len(site._mocked.calls)


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_server_that_does_not_tell_its_capabilities_is_not_taken_for_a_plain_one(
    site: Site, make_plane: Callable[..., HttpControlPlane], status: int
) -> None:
    """Without a fence, work of ours could be written over someone else's."""
    site.answers("GET", f"{API}/capabilities", {"detail": "no"}, status)

    with pytest.raises((AuthError, TransientError)):
        make_plane().next_job(wait_s=0)


# ------------------------------------------------------------------------------------ getting a job


def test_a_poll_says_how_long_it_waits(site: Site, plane: HttpControlPlane) -> None:
    site.answers("GET", f"{AGENT}/job", sample.job("Pending"))

    found = plane.next_job(wait_s=20)

    assert THE_JOB == found
    assert f"{AGENT}/job?wait_s=20.000" == site.sent[0].url


def test_a_poll_says_which_types_fit(site: Site, make_plane: Callable[..., HttpControlPlane]) -> None:
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": list(EXTENSIONS)})
    site.answers("GET", f"{AGENT}/job", {"message": "no job"})
    plane = make_plane(job_types=["inference", "prompt_tuning", "judge_scoring"])

    plane.next_job(wait_s=0, job_types={"judge_scoring", "inference"})

    assert f"{AGENT}/job?wait_s=0.000&job_type=inference&job_type=judge_scoring" == site.sent[-1].url


def test_a_question_with_a_key_is_a_claim(site: Site, plane: HttpControlPlane) -> None:
    site.answers("POST", f"{AGENT}/claims", claimed(lease={"ttl_s": 60.0, "waited_s": 12.5}))

    claim = plane.next_claim(key="k", wait_s=20, job_types={"judge_scoring", "inference"})

    assert isinstance(claim, Claim)
    assert (sample.JOB_ID, 2, Lease(60.0, 12.5)) == (claim.job.id, claim.attempt, claim.lease)
    assert "k" == site.sent[-1].headers["Idempotency-Key"]
    assert {
        "wait_s": 20,
        "message": "claimed by host-1",
        "job_types": ["inference", "judge_scoring"],
    } == site.body()


def test_a_question_may_bring_nothing(site: Site, plane: HttpControlPlane) -> None:
    site.answers("POST", f"{AGENT}/claims", {"message": "nothing today"})

    assert NoJob("nothing today") == plane.next_claim(key="k", wait_s=0)


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (409, "superseded", ClaimLost),
        (404, "Agent not found", RejectedError),
        (422, "no", RejectedError),
        (401, "no", AuthError),
        (503, "no", TransientError),
    ],
)
def test_a_question_that_is_refused_means_this(
    site: Site, plane: HttpControlPlane, status: int, detail: str, error: type[Exception]
) -> None:
    """That the agent is not known is no word about a job."""
    site.answers("POST", f"{AGENT}/claims", {"detail": detail}, status)

    with pytest.raises((RejectedError, TransientError)) as caught:
        plane.next_claim(key="k", wait_s=0)

    assert error is type(caught.value)


def test_an_older_server_grants_nothing(site: Site, plain: HttpControlPlane) -> None:
    assert plain.next_claim(key="k", wait_s=0) is None
    assert [] == site.sent


def test_a_server_that_is_older_all_of_a_sudden_is_asked_in_the_older_way(
    site: Site, plane: HttpControlPlane
) -> None:
    """Somebody has put an earlier version back."""
    site.answers("POST", f"{AGENT}/claims", {"detail": "Not Found"}, 404)

    answers = [plane.next_claim(key="k", wait_s=0) for _ in range(2)]

    assert [None, None] == answers
    assert [f"POST {AGENT.removeprefix(API)}/claims"] == site.asked


def test_no_job_is_a_value(site: Site, plane: HttpControlPlane) -> None:
    site.answers("GET", f"{AGENT}/job", {"message": "nothing today"})

    assert NoJob("nothing today") == plane.next_job(wait_s=0)


def claimed(**more: Any) -> dict[str, Any]:
    return sample.job("Pending", "Claimed", **{"attempt": 2, "lease": {"ttl_s": 60.0}, **more})


def test_a_claim_carries_its_key_and_names_its_attempt(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", claimed())

    claim = plane.claim(THE_JOB, key="the-key")

    assert Claim(replace(THE_JOB, status=Status.CLAIMED, holder=sample.AGENT_ID), 2, Lease(60.0)) == claim
    assert f"{JOB}/status?status_name=Claimed&agent_id={sample.AGENT_ID}" == site.sent[0].url
    assert "the-key" == site.sent[0].headers["Idempotency-Key"]
    assert {"message": "claimed by host-1"} == site.body()


@pytest.mark.parametrize(
    ("ttl_s", "lease"),
    [(0.01, Lease(1.0)), (60, Lease(60.0)), (1e9, Lease(3600.0))],
    ids=["short", "usual", "long"],
)
def test_a_lease_is_believed_within_reason(site: Site, plane: HttpControlPlane, ttl_s: float, lease: Lease) -> None:
    site.answers("PUT", f"{JOB}/status", claimed(lease={"ttl_s": ttl_s, "expires_at": "1970-01-01T00:00:00Z"}))

    assert lease == plane.claim(THE_JOB, key="k").lease


@pytest.mark.parametrize("ttl_s", [0, -1, None, "60"])
def test_a_lease_that_is_none_is_refused(site: Site, plane: HttpControlPlane, ttl_s: Any) -> None:
    site.answers("PUT", f"{JOB}/status", claimed(lease={"ttl_s": ttl_s}))

    with pytest.raises(ProtocolError, match=r"lease\.ttl_s"):
        plane.claim(THE_JOB, key="k")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"id": "another-job"}, "about another job, or another agent"),
        ({"agent_id": "another-agent"}, "about another job, or another agent"),
        ({"tenant_id": "another-tenant"}, "about another job, or another agent"),
        ({"tenant_id": None}, "about another job, or another agent"),
        ({"function": sample.job()["function"] | {"name": "another_type"}}, "about another job, or another agent"),
        ({"attempt": None}, "has no attempt; the job would run without a fence"),
        ({"attempt": 0}, "has no attempt; the job would run without a fence"),
        ({"attempt": -1}, "attempt: "),
        ({"lease": None}, "has no lease, though this server grants them"),
    ],
)
def test_a_claim_that_was_granted_for_something_else_is_not_taken(
    site: Site, plane: HttpControlPlane, change: dict[str, Any], why: str
) -> None:
    site.answers("PUT", f"{JOB}/status", claimed(**change))

    with pytest.raises(ProtocolError, match=why):
        plane.claim(THE_JOB, key="k")


def test_a_refused_claim_costs_one_call(site: Site, plane: HttpControlPlane) -> None:
    """The key resolves a lost answer; there is nothing to look up."""
    site.answers("PUT", f"{JOB}/status", {"detail": "taken", "code": "claim_taken"}, 409)

    with pytest.raises(ClaimLost, match="claim: 409: taken"):
        plane.claim(THE_JOB, key="k")

    assert 1 == len(site.sent)


# ------------------------------------------------------------------------------------ holding it


def test_a_status_carries_its_fence_and_its_number(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Failed"))

    plane.report(UPDATE)

    assert f"{JOB}/status?status_name=Failed&agent_id={sample.AGENT_ID}" == site.sent[0].url
    assert ("2", "3") == tuple(site.sent[0].headers[f"Overmind-{name}"] for name in ("Attempt", "Sequence"))
    assert {"message": "timeout: too long", "detail": {"reason": "timeout"}} == site.body()


def test_a_status_without_words_has_an_empty_body(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Running"))

    plane.report(StatusUpdate(sample.JOB_ID, 1, 2, Status.RUNNING))

    assert {} == site.body()


def test_a_long_message_is_cut_to_what_the_wire_takes(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Failed"))

    plane.report(replace(UPDATE, message="x" * 5000))

    assert 4096 == len(site.body()["message"])


def test_a_heartbeat_says_what_is_held(site: Site, plane: HttpControlPlane) -> None:
    site.answers("POST", f"{AGENT}/heartbeat", {"jobs": []})

    plane.heartbeat([HELD, Held("b", 1)], draining=True, wait_s=2.5)

    assert {
        "slots": 2,
        "draining": True,
        "wait_s": 2.5,
        "jobs": [
            {
                "job_id": sample.JOB_ID,
                "attempt": 2,
                "progress": {"step": 1, "total_steps": 2, "step_name": "rows"},
            },
            {"job_id": "b", "attempt": 1, "progress": None},
        ],
    } == site.body()


@pytest.mark.parametrize("knows", [True, False])
def test_what_was_spent_is_told_to_a_server_that_asks_for_it(
    site: Site, make_plane: Callable[..., HttpControlPlane], knows: bool
) -> None:
    """Another one would refuse the heartbeat of all jobs for a key that it does not know."""
    known = [name for name in EXTENSIONS if knows or name != "pace"]
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": known})
    site.answers("POST", f"{AGENT}/heartbeat", {"jobs": []})
    line = Held("b", 1, Progress(1, 2, "rows", usd=0.41, eta_s=310.0))

    make_plane().heartbeat([line], draining=False, wait_s=0)

    figures = {"usd": 0.41, "eta_s": 310.0} if knows else {}
    assert {"step": 1, "total_steps": 2, "step_name": "rows"} | figures == site.body()["jobs"][0]["progress"]


@pytest.mark.parametrize(("known", "said"), [(EXTENSIONS, "one"), (("lease", "heartbeat", "next_job"), None)])
def test_the_start_of_an_agent_is_named_where_the_server_asks_for_it(
    site: Site, known: Sequence[str], said: str | None
) -> None:
    """In the registration, in each poll and heartbeat, and in the last one, which says that no jobs are taken."""
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": list(known)})
    site.answers("PUT", AGENT, {"id": sample.AGENT_ID, "created": sample.NOW})
    site.answers("POST", f"{AGENT}/heartbeat", {"jobs": [], "replaced": True})
    site.answers("GET", f"{AGENT}/job", {"message": "gone", "replaced": True})
    accept_an_agent(site)
    calls = HttpCalls(BASE, lambda: "ovr_secret")
    plane = HttpControlPlane(
        calls,
        job_types=["inference"],
        display_name="host-1",
        slots=2,
        agent_id=lambda: sample.AGENT_ID,
        instance="one",
    )

    plane.register(sample.AGENT_ID)
    orders = plane.heartbeat([HELD], draining=False, wait_s=0)
    plane.leave()
    nothing = plane.next_job(wait_s=0)
    polled = str(site.sent[-1].url)
    calls.close()

    assert [said] * 3 == [site.body(number).get("instance") for number in (0, 4, 5)]
    assert said == parse_qs(urlsplit(polled).query).get("instance", [None])[0]
    assert orders.is_replaced
    assert NoJob("gone", is_replaced=True) == nothing
    assert (True, []) == (site.body(5)["draining"], site.body(5)["jobs"])


@pytest.mark.parametrize(
    ("known", "told"),
    [(EXTENSIONS, ("disk: " + "x" * 249, 2)), (("lease", "fence", "heartbeat"), (None, None))],
    ids=["newest", "older"],
)
def test_why_no_job_is_taken_and_how_often_a_job_was_the_end_is_told_where_there_is_a_word_for_it(
    site: Site, make_plane: Callable[..., HttpControlPlane], known: Sequence[str], told: tuple[Any, Any]
) -> None:
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": list(known)})
    site.answers("POST", f"{AGENT}/heartbeat", {"jobs": []})
    plane = make_plane()

    plane.heartbeat([replace(HELD, ends=2)], draining=False, wait_s=0, not_accepting="disk: " + "x" * 300)
    plane.heartbeat([HELD], draining=False, wait_s=0)

    beats = [site.body(n) for n, sent in enumerate(site.sent) if sent.method == "POST"]
    assert [told, (None, None)] == [(beat.get("not_accepting"), beat["jobs"][0].get("ends")) for beat in beats]


def test_a_plain_server_is_told_of_the_end_by_the_status(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{AGENT}/status")
    plain.heartbeat([], draining=True, wait_s=0)

    plain.leave()

    assert [{"name": "Idle"}, {"name": "Paused"}] == [site.body(0), site.body(1)]


def test_a_server_that_was_never_there_is_told_nothing(site: Site, plane: HttpControlPlane) -> None:
    plane.leave()

    assert [] == site.asked


def test_the_orders_of_a_heartbeat_are_read(site: Site, plane: HttpControlPlane) -> None:
    lines = [
        {"job_id": "a", "attempt": 1, "directive": "continue", "lease": {"ttl_s": 60.0}},
        {"job_id": "b", "attempt": 1, "directive": "cancel"},
        {"job_id": "c", "attempt": 1, "directive": "superseded", "lease": None},
        {"job_id": "d", "attempt": 1, "directive": "dance"},
    ]
    site.answers("POST", f"{AGENT}/heartbeat", {"jobs": lines, "drain": True, "of_a_newer_server": 7.5})

    orders = plane.heartbeat([HELD], draining=False, wait_s=0)

    directives = {"a": Directive.CONTINUE, "b": Directive.CANCEL, "c": Directive.SUPERSEDED}
    assert Orders(directives, {"a": Lease(60.0)}, drain=True) == orders


def test_log_bytes_go_as_they_are(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/logs", {"offset": 15})

    offset = plane.append_log(CLAIM, offset=10, data=b"\0\xff\nab")

    assert 15 == offset
    assert f"{JOB}/logs?offset=10" == site.sent[0].url
    assert b"\0\xff\nab" == site.sent[0].body
    assert "2" == site.sent[0].headers["Overmind-Attempt"]
    assert "application/octet-stream" == site.sent[0].headers["Content-Type"]


def test_a_piece_of_a_log_is_packed_and_carries_its_digest(site: Site, plane: HttpControlPlane) -> None:
    """The digest is that of the bytes that go over the wire."""
    site.answers("PUT", f"{JOB}/logs", {"offset": 20_000})

    plane.append_log(CLAIM, offset=0, data=b"a line\n" * 2000)

    body, headers = site.sent[0].body, site.sent[0].headers
    assert ("gzip", b"a line\n" * 2000) == (headers["Content-Encoding"], gzip.decompress(body))
    assert content_digest(hashlib.sha256(body).digest()) == headers["Content-Digest"]
    assert len(body) < 1000


def test_a_piece_of_a_log_that_arrives_damaged_is_sent_again(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/logs", {"detail": "x", "code": "digest_mismatch"}, 412)

    with pytest.raises(TransientError, match="damaged"):
        plane.append_log(CLAIM, offset=0, data=b"x")


def test_what_became_of_the_log_is_told_to_a_server_that_asks_for_it(
    site: Site, make_plane: Callable[..., HttpControlPlane]
) -> None:
    """Another one would refuse the whole word for a key that it does not know."""
    known = [name for name in EXTENSIONS if name != "log_counts"]
    site.answers("GET", f"{API}/capabilities", {"protocol": "1", "extensions": known})
    site.answers("PUT", f"{JOB}/status", sample.job())

    make_plane().report(replace(UPDATE, detail={"reason": "timeout", "log": {"sent_bytes": 1}}))

    assert {"reason": "timeout"} == site.body()["detail"]


def test_a_wrong_offset_is_answered_by_the_right_one(site: Site, plane: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/logs", {"detail": "x", "code": "wrong_offset", "offset": 42}, 409)

    assert 42 == plane.append_log(CLAIM, offset=10, data=b"x")


@pytest.mark.parametrize("offset", [-1, "12", None, 1.5])
def test_a_right_offset_that_is_none_is_a_lost_claim(site: Site, plane: HttpControlPlane, offset: Any) -> None:
    site.answers("PUT", f"{JOB}/logs", {"detail": "superseded", "offset": offset}, 409)

    with pytest.raises(ClaimLost):
        plane.append_log(CLAIM, offset=10, data=b"x")


# ------------------------------------------------------------------------------------ files


def remote(content: bytes, name: str = "parameters.json", size_bytes: int | None = -1) -> RemoteFile:
    sha = hashlib.sha384(content + sample.SALT.encode()).hexdigest()
    return RemoteFile(name, sha, sample.SALT, len(content) if size_bytes == -1 else size_bytes, "revision-1")


def serve(site: Site, file: RemoteFile, content: bytes, status: int = 200) -> None:
    site.answers("GET", f"{API}/tokens/{file.sha}/download-url", {"url": BLOB, "expires": sample.NOW})
    site.answers("GET", BLOB, content, status, content_type="application/octet-stream")


@pytest.mark.parametrize(
    ("content", "parameters"), [(b'{"a": [1, "\xc3\xbc"]}', {"a": [1, "ü"]}), (b"{}", {}), (b"", {})]
)
def test_parameters_are_read(
    site: Site, plane: HttpControlPlane, content: bytes, parameters: dict[str, Any]
) -> None:
    file = remote(content)
    serve(site, file, content)

    assert parameters == plane.read_parameters(replace(THE_JOB, parameters=file))
    assert "Authorization" not in site.sent[-1].headers


def claimed_with(site: Site, content: bytes, told: str | None) -> RemoteFile:
    """The answer to a claim of a job with those parameters."""
    document = sample.job("Claimed", attempt=1, lease={"ttl_s": 60.0}, parameters=told)
    revision = document["file"]["revisions"][-1]
    file = remote(content)
    revision["content_token"] |= {"sha": file.sha, "salt": file.salt}
    site.answers("PUT", f"{JOB}/status", document)
    return file


def test_parameters_that_came_with_the_claim_are_not_asked_for(site: Site, newest: HttpControlPlane) -> None:
    content = b'{"a": 1}'
    claimed_with(site, content, base64.b64encode(content).decode())
    claim = newest.claim(THE_JOB, key="k")

    assert {"a": 1} == newest.read_parameters(claim.job)
    assert [] == [request.url for request in site.sent if "/tokens/" in request.url]


@pytest.mark.parametrize("told", [None, "not base64!", base64.b64encode(b'{"a": 2}').decode()])
def test_parameters_that_came_damaged_are_asked_for(site: Site, newest: HttpControlPlane, told: str | None) -> None:
    content = b'{"a": 1}'
    file = claimed_with(site, content, told)
    serve(site, file, content)
    claim = newest.claim(THE_JOB, key="k")

    assert {"a": 1} == newest.read_parameters(claim.job)


def claimed_with_input(site: Site, file: RemoteFile, told: str | None) -> None:
    """The answer to a claim of a job with that input."""
    given = {"revision_id": file.revision_id, "name": file.name, "sha": file.sha, "salt": file.salt}
    given |= {"size": file.size_bytes, "content": told}
    site.answers("PUT", f"{JOB}/status", sample.job("Claimed", attempt=1, lease={"ttl_s": 60.0}, input_file=given))


def test_an_input_that_came_with_the_claim_is_not_asked_for(
    site: Site, newest: HttpControlPlane, tmp_path: Path
) -> None:
    file = remote(b"rows", "rows.jsonl")
    claimed_with_input(site, file, base64.b64encode(b"rows").decode())
    claim = newest.claim(THE_JOB, key="k")
    asked = len(site.sent)

    found = newest.input_file(claim.job)
    newest.download(file, tmp_path / "input")

    assert (file, b"rows", asked) == (found, (tmp_path / "input").read_bytes(), len(site.sent))


@pytest.mark.parametrize("told", [None, "not base64!", base64.b64encode(b"r0ws").decode()])
def test_an_input_that_is_large_or_came_damaged_is_asked_for(
    site: Site, newest: HttpControlPlane, tmp_path: Path, told: str | None
) -> None:
    file = remote(b"rows", "rows.jsonl")
    claimed_with_input(site, file, told)
    serve(site, file, b"rows")
    newest.claim(THE_JOB, key="k")

    newest.download(file, tmp_path / "input")

    assert b"rows" == (tmp_path / "input").read_bytes()


def test_the_input_of_another_job_is_asked_for(site: Site, newest: HttpControlPlane) -> None:
    """A job that is gone on with after a restart was claimed by another process."""
    claimed_with_input(site, remote(b"rows", "rows.jsonl"), None)
    newest.claim(THE_JOB, key="k")
    site.answers("GET", f"{API}/models/{sample.MODEL_ID}", sample.model())

    found = newest.input_file(replace(THE_JOB, id="another"))

    assert sample.REVISION_ID == (found.revision_id if found else None)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff"])
def test_parameters_that_are_no_object_are_the_submitters_fault(
    site: Site, plane: HttpControlPlane, content: bytes
) -> None:
    file = remote(content)
    serve(site, file, content)

    with pytest.raises(InvalidInput, match="parameters: "):
        plane.read_parameters(replace(THE_JOB, parameters=file))


@pytest.mark.parametrize("size_bytes", [PARAMETERS.max_bytes + 1, 50_000_000, 2**62])
def test_parameters_that_are_too_long_are_not_fetched(site: Site, plane: HttpControlPlane, size_bytes: int) -> None:
    """They are held in memory whole, and the server says how long they are."""
    file = remote(b"{}", size_bytes=size_bytes)

    with pytest.raises(InvalidInput, match=f"parameters: {size_bytes:,} bytes, more than {PARAMETERS.max_bytes:,}"):
        plane.read_parameters(replace(THE_JOB, parameters=file))

    assert [] == site.sent


def test_the_input_is_the_newest_revision_of_the_model(site: Site, plane: HttpControlPlane) -> None:
    site.answers("GET", f"{API}/models/{sample.MODEL_ID}", sample.model())

    found = plane.input_file(THE_JOB)

    assert RemoteFile("rows.jsonl", sample.SHA, sample.SALT, 64, sample.REVISION_ID) == found


@pytest.mark.parametrize("job", [replace(THE_JOB, has_input=False), replace(THE_JOB, model_id=None)])
def test_a_job_without_an_input_has_none(site: Site, make_plane: Callable[..., HttpControlPlane], job: Job) -> None:
    assert make_plane().input_file(job) is None


def test_a_download_is_there_in_one_step(site: Site, plane: HttpControlPlane, tmp_path: Path) -> None:
    file = remote(b"rows")
    serve(site, file, b"rows")

    plane.download(file, tmp_path / "input")

    assert b"rows" == (tmp_path / "input").read_bytes()
    assert ["input"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("size_bytes", [4, None])
def test_a_download_with_another_digest_is_not_kept(
    site: Site, plane: HttpControlPlane, tmp_path: Path, size_bytes: int | None
) -> None:
    file = remote(b"rows", size_bytes=size_bytes)
    serve(site, file, b"r0ws")

    with pytest.raises(TransientError, match="does not have its digest"):
        plane.download(file, tmp_path / "input")

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size_bytes", "content", "what"),
    [
        (None, b"r0ws", "does not have its digest"),
        (4, b"r0ws", "does not have its digest"),
        (4, b"<p>Please sign in", "is longer than it should be"),
    ],
)
def test_a_file_that_stays_damaged_is_the_jobs_fault(
    site: Site, plane: HttpControlPlane, tmp_path: Path, size_bytes: int | None, content: bytes, what: str
) -> None:
    """Else the job would be tried for as long as its lease is renewed; a portal's page in its place goes away."""
    file = remote(b"rows", size_bytes=size_bytes)
    serve(site, file, content)

    for _ in range(2):
        with pytest.raises(TransientError, match=what):
            plane.download(file, tmp_path / "input")
    with pytest.raises(InvalidInput, match=f"{what}, however often it is read"):
        plane.download(file, tmp_path / "input")


def test_transfers_that_went_wrong_are_forgotten_when_the_file_arrives(
    site: Site, plane: HttpControlPlane, tmp_path: Path
) -> None:
    """Many jobs may have one file, and an agent lives for long: its third bad transfer fails no job."""
    file = remote(b"rows")

    for content in (b"r0ws", b"r0ws", b"rows", b"r0ws"):
        serve(site, file, content)
    for _ in range(2):
        with pytest.raises(TransientError):
            plane.download(file, tmp_path / "input")
    plane.download(file, tmp_path / "input")

    with pytest.raises(TransientError):
        plane.download(file, tmp_path / "input")


@pytest.mark.parametrize("status", [400, 404, 410, 416])
def test_a_file_that_is_not_there_is_the_jobs_fault(
    site: Site, plane: HttpControlPlane, tmp_path: Path, status: int
) -> None:
    file = remote(b"rows")
    serve(site, file, b"", status)

    with pytest.raises(InvalidInput, match=r"the file 'parameters\.json' cannot be read: download: "):
        plane.download(file, tmp_path / "input")


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_url_that_is_no_longer_accepted_is_asked_for_again(
    site: Site, plane: HttpControlPlane, tmp_path: Path, status: int
) -> None:
    file = remote(b"rows")
    serve(site, file, b"", status)

    with pytest.raises(TransientError):
        plane.download(file, tmp_path / "input")


def test_a_token_that_is_refused_for_a_file_is_about_the_agent(
    site: Site, plane: HttpControlPlane, tmp_path: Path
) -> None:
    file = remote(b"rows")
    site.answers("GET", f"{API}/tokens/{file.sha}/download-url", {"detail": "no"}, 401)

    with pytest.raises(AuthError):
        plane.download(file, tmp_path / "input")


def take_uploads(site: Site, *, stored: bool = False) -> None:
    """Give a URL for every blob, or say that each is stored already."""
    url = f"{API}/tokens/"
    pattern = re.compile(url + "[0-9a-f]{96}/upload-url")
    if stored:
        site.answers("GET", pattern, {"detail": "stored", "code": "sha_exists"}, 409)
    else:
        site.answers("GET", pattern, {"url": BLOB, "expires": sample.NOW})
        site.answers("PUT", BLOB, b"", content_type="text/plain")


ARTIFACTS = f"{API}/models/{sample.MODEL_ID}/artifacts"


def test_an_upload_stores_two_blobs_and_names_the_job_as_the_source(
    site: Site, plane: HttpControlPlane, tmp_path: Path
) -> None:
    take_uploads(site)
    site.answers("POST", ARTIFACTS, sample.artifact(), 201)
    file = a_result_file(tmp_path, "output.jsonl", b'{"a": 1}\n')

    remote_id = plane.upload(CLAIM, file)

    body = site.body()
    puts = [request for request in site.sent if request.method == "PUT"]
    salt = body["content_token"]["salt"]
    assert "artifact-1" == remote_id
    assert hashlib.sha384(b'{"a": 1}\n' + salt.encode()).hexdigest() == body["content_token"]["sha"]
    assert [{"revision_id": sample.REVISION_ID, "relationship_identifier": "job"}] == body["sources"]
    assert ("output.jsonl", "jsonl", 9) == (body["name"], body["extension"], body["size"])
    assert 2 == len(puts)
    assert all("Authorization" not in request.headers for request in puts)
    assert "2" == site.sent[-1].headers["Overmind-Attempt"]
    assert 64 == len(site.sent[-1].headers["Idempotency-Key"])


@pytest.mark.parametrize(("size_bytes", "is_inline"), [(0, True), (INLINE_BYTES, True), (INLINE_BYTES + 1, False)])
def test_a_small_file_comes_with_what_names_it(
    site: Site, newest: HttpControlPlane, tmp_path: Path, size_bytes: int, is_inline: bool
) -> None:
    if not is_inline:
        take_uploads(site)
    site.answers("POST", ARTIFACTS, sample.artifact(), 201)
    content = b"x" * size_bytes

    newest.upload(CLAIM, a_result_file(tmp_path, "output.jsonl", content))

    body = site.body()
    assert is_inline == ("blobs" in body)
    if is_inline:
        tokens = [body["content_token"]["sha"], body["properties_token"]["sha"]]
        assert tokens == list(body["blobs"])
        assert content == base64.b64decode(body["blobs"][tokens[0]])


def test_the_same_upload_twice_is_one_to_the_server(
    site: Site, plane: HttpControlPlane, make_plane: Callable[..., HttpControlPlane], tmp_path: Path
) -> None:
    """Also when it comes from the next start of the agent: another body under the same key would be refused."""
    take_uploads(site)
    site.answers("POST", ARTIFACTS, sample.artifact(), 201)
    file = a_result_file(tmp_path)

    plane.upload(CLAIM, file)
    make_plane().upload(CLAIM, file)

    posts = [request for request in site.sent if request.method == "POST"]
    assert 2 == len(posts)
    assert 1 == len({request.headers["Idempotency-Key"] for request in posts})
    assert 1 == len({request.body for request in posts})


def test_a_blob_that_is_stored_is_not_sent_again(site: Site, plane: HttpControlPlane, tmp_path: Path) -> None:
    take_uploads(site, stored=True)
    site.answers("POST", ARTIFACTS, sample.artifact(), 201)

    plane.upload(CLAIM, a_result_file(tmp_path))

    assert [] == [request for request in site.sent if request.method == "PUT"]


def _missing(file: ResultFile) -> None:
    file.path.unlink()


def _changed(file: ResultFile) -> None:
    file.path.write_bytes(b"other")


def _a_link(file: ResultFile) -> None:
    file.path.unlink()
    file.path.symlink_to("/etc/hostname")


def _a_folder(file: ResultFile) -> None:
    file.path.unlink()
    file.path.mkdir()


def _a_pipe(file: ResultFile) -> None:
    file.path.unlink()
    os.mkfifo(file.path)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (_missing, "output_missing"),
        (_changed, "output_changed"),
        (_a_link, "output_unreadable"),
        (_a_folder, "output_unreadable"),
        (_a_pipe, "output_unreadable"),
    ],
)
def test_a_result_file_that_was_tampered_with_is_not_uploaded(
    site: Site,
    make_plane: Callable[..., HttpControlPlane],
    tmp_path: Path,
    tamper: Callable[[ResultFile], None],
    reason: str,
) -> None:
    """A link to a secret of the host would be the worst of them."""
    file = a_result_file(tmp_path)
    tamper(file)

    with pytest.raises(UploadError) as caught:
        make_plane().upload(CLAIM, file)

    assert reason == caught.value.reason


def test_a_job_without_a_model_has_nowhere_to_put_its_files(
    make_plane: Callable[..., HttpControlPlane], tmp_path: Path
) -> None:
    claim = replace(CLAIM, job=replace(THE_JOB, model_id=None))

    with pytest.raises(UploadError, match="no model to attach result files to"):
        make_plane().upload(claim, a_result_file(tmp_path))


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, UploadError), (413, UploadError), (401, TransientError), (403, TransientError), (503, TransientError)],
)
def test_an_upload_that_the_storage_refuses(
    site: Site, plane: HttpControlPlane, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    site.answers("GET", re.compile(f"{API}/tokens/"), {"url": BLOB, "expires": sample.NOW})
    site.answers("PUT", BLOB, b"", status, content_type="text/plain")

    with pytest.raises(error):
        plane.upload(CLAIM, a_result_file(tmp_path))


def test_an_artifact_of_a_lost_job_is_a_lost_claim(site: Site, plane: HttpControlPlane, tmp_path: Path) -> None:
    take_uploads(site)
    site.answers("POST", ARTIFACTS, {"detail": "x", "code": "superseded"}, 409)

    with pytest.raises(ClaimLost):
        plane.upload(CLAIM, a_result_file(tmp_path))


# ------------------------------------------------------------------------------------ without extensions

OURS = ("Overmind-Attempt", "Overmind-Sequence")


def assert_nothing_of_ours(site: Site) -> None:
    """No header and no key of a body that the published client would not send."""
    for request in site.sent:
        assert [] == [name for name in OURS if name in request.headers]
        body = json.loads(request.body) if request.body and request.method != "PUT" else {}
        assert not {"capabilities", "detail", "slots"} & set(body)
    for number, request in enumerate(site.sent):
        if "/status" in str(request.url):
            assert set(site.body(number) or {}) <= {"message", "name"}


def test_a_plain_server_is_not_told_of_capabilities(site: Site, plain: HttpControlPlane) -> None:
    site.answers("POST", f"{API}/agents", {"id": sample.AGENT_ID, "created": sample.NOW})
    accept_an_agent(site)

    plain.register(None)

    assert {"agent_version", "host_os"} == set(site.body(0))


def test_a_plain_server_is_asked_for_available_jobs(site: Site, plain: HttpControlPlane) -> None:
    others = sample.job(id="other", function=sample.function("@acme:tea"))
    site.answers("GET", f"{AGENT}/available_jobs", {"items": [others, sample.job("Pending")]})

    assert THE_JOB == plain.next_job(wait_s=20)
    assert f"{AGENT}/available_jobs?page=1&size=20" == site.sent[0].url


def test_a_plain_server_without_jobs_for_us_has_none(site: Site, plain: HttpControlPlane) -> None:
    others = sample.job(id="other", function=sample.function("@acme:tea"))
    site.answers("GET", f"{AGENT}/available_jobs", {"items": [others]})

    assert NoJob("no job available") == plain.next_job(wait_s=20)


def test_a_claim_at_a_plain_server_has_neither_attempt_nor_lease(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Pending", "Claimed", "Pending", "Claimed"))

    claim = plain.claim(THE_JOB, key="k")

    assert (2, None) == (claim.attempt, claim.lease)
    assert_nothing_of_ours(site)


@pytest.mark.parametrize(
    ("found", "is_ours"),
    [
        (sample.job("Pending", "Claimed"), True),
        (
            sample.job("Pending", "Claimed", agent_id="x")
            | {"status_history": [sample.status("Pending"), sample.status("Claimed", "x")]},
            False,
        ),
        (sample.job("Pending", "Claimed", "Running"), False),
        (sample.job("Pending"), False),
        (sample.job() | {"status_history": None}, False),
    ],
    ids=["ours", "someone else's", "further", "waiting", "no history"],
)
def test_a_claim_whose_answer_was_lost_is_resolved_by_reading(
    site: Site, plain: HttpControlPlane, found: dict[str, Any], is_ours: bool
) -> None:
    """A plain server may refuse the repeated claim of a job that it has given us."""
    site.answers("PUT", f"{JOB}/status", {"detail": "already claimed"}, 409)
    site.answers("GET", JOB, found)

    if is_ours:
        assert sample.JOB_ID == plain.claim(THE_JOB, key="k").job.id
    else:
        with pytest.raises(ClaimLost, match="already claimed"):
            plain.claim(THE_JOB, key="k")


def test_a_status_at_a_plain_server_is_its_name_and_a_message(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Failed"))

    plain.report(replace(UPDATE, message="x" * 1000))

    assert {"message": "x" * 255} == site.body()
    assert_nothing_of_ours(site)


def test_a_status_without_words_has_no_body_at_a_plain_server(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Running"))

    plain.report(StatusUpdate(sample.JOB_ID, 1, 2, Status.RUNNING, None, {"files": []}))

    assert site.body() is None


def test_a_release_at_a_plain_server_is_a_failure_that_says_why(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{JOB}/status", sample.job("Failed"))

    plain.report(StatusUpdate(sample.JOB_ID, 1, 4, Status.PENDING))

    assert "status_name=Failed" in site.sent[0].url
    assert "agent_stopping: this agent stopped before the job was done" == site.body()["message"]


@pytest.mark.parametrize(("last", "is_taken"), [("Failed", True), ("Running", False), ("Canceled", False)])
def test_a_status_whose_answer_was_lost_is_resolved_by_reading(
    site: Site, plain: HttpControlPlane, last: str, is_taken: bool
) -> None:
    site.answers("PUT", f"{JOB}/status", {"detail": "illegal"}, 409)
    site.answers("GET", JOB, sample.job("Pending", "Claimed", last))

    if is_taken:
        plain.report(UPDATE)
    else:
        with pytest.raises(ClaimLost):
            plain.report(UPDATE)


CONTINUE, CANCEL, SUPERSEDED = Directive.CONTINUE, Directive.CANCEL, Directive.SUPERSEDED


@pytest.mark.parametrize(
    ("status", "directive"),
    [
        (Status.CREATED, SUPERSEDED),
        (Status.PENDING, SUPERSEDED),
        (Status.CLAIMED, CONTINUE),
        (Status.VALIDATING, CONTINUE),
        (Status.RUNNING, CONTINUE),
        (Status.UPLOADING, CONTINUE),
        (Status.COMPLETED, SUPERSEDED),
        (Status.FAILED, SUPERSEDED),
        (Status.CANCELED, CANCEL),
        (Status.UNKNOWN, CONTINUE),
    ],
)
def test_a_cancel_at_a_plain_server_is_noticed_by_reading(
    site: Site, plain: HttpControlPlane, status: Status, directive: Directive
) -> None:
    site.answers("PUT", f"{AGENT}/status")
    site.answers("GET", JOB, sample.job("Pending", status.value))

    orders = plain.heartbeat([HELD], draining=False, wait_s=10)

    assert Orders({sample.JOB_ID: directive}) == orders
    assert_nothing_of_ours(site)


def test_the_directives_cover_every_status() -> None:
    assert set(Status) == set(LIFECYCLE)


def test_a_job_that_somebody_else_holds_at_a_plain_server_is_superseded(
    site: Site, plain: HttpControlPlane
) -> None:
    site.answers("PUT", f"{AGENT}/status")
    site.answers("GET", JOB, sample.job("Pending", "Claimed", agent_id="another"))

    assert {sample.JOB_ID: SUPERSEDED} == plain.heartbeat([HELD], draining=False, wait_s=0).directives


def test_a_job_that_is_gone_at_a_plain_server_is_superseded(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{AGENT}/status")
    site.answers("GET", JOB, {"detail": "no such job"}, 404)

    assert {sample.JOB_ID: SUPERSEDED} == plain.heartbeat([HELD], draining=False, wait_s=0).directives


def test_a_plain_server_is_told_when_the_agent_begins_and_ends_to_work(site: Site, plain: HttpControlPlane) -> None:
    site.answers("PUT", f"{AGENT}/status")
    site.answers("GET", JOB, sample.job("Pending", "Claimed"))

    for held, why_not in (([HELD], None), ([HELD], "disk: full"), ([], "disk: full"), ([], None)):
        plain.heartbeat(held, draining=False, wait_s=0, not_accepting=why_not)

    said = [site.body(n)["name"] for n, request in enumerate(site.sent) if request.method == "PUT"]
    assert ["ExecutingJob", "Paused", "Idle"] == said


def test_an_upload_to_a_plain_server_is_the_published_clients(
    site: Site, plain: HttpControlPlane, tmp_path: Path
) -> None:
    take_uploads(site)
    site.answers("GET", f"{API}/models/{sample.MODEL_ID}", sample.model())
    site.answers("POST", ARTIFACTS, sample.artifact(), 200)

    plain.upload(CLAIM, a_result_file(tmp_path))

    assert "Idempotency-Key" not in site.sent[-1].headers
    assert_nothing_of_ours(site)


def test_a_log_has_nowhere_to_go_at_a_plain_server(site: Site, plain: HttpControlPlane) -> None:
    assert None is plain.append_log(CLAIM, offset=10, data=b"12345")
    assert [] == site.sent


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_the_route_is_a_plain_one(
    site: Site, make_plane: Callable[..., HttpControlPlane], status: int
) -> None:
    site.answers("GET", f"{API}/capabilities", {"detail": "no"}, status)
    site.answers("GET", f"{AGENT}/available_jobs", {"items": []})

    assert NoJob("no job available") == make_plane().next_job(wait_s=0)
