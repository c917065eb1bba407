"""
The page: who gets in, what each sees, and that nothing which a job brings becomes a part of it.

What a browser makes of it is in `test_browser`; here its HTML and its headers are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, Final

import pytest
import requests
from plane_calls import Project
from sqlalchemy import select

from overmind_controlplane.access import make_token, revoke
from overmind_controlplane.caller import Role
from overmind_controlplane.page.rendering import DOWNLOAD_HEADERS, HEADERS
from overmind_controlplane.plane import open_database
from overmind_controlplane.record import tables
from overmind_controlplane.record.database import Database
from server import ControlPlaneProcess

HOSTILE: Final = "\"'><img src=x onerror=alert(1)></pre></script><script>alert(2)</script>{{7*7}}\u202e\x1b[31m"


class Visitor:
    """A browser without eyes: keeps cookies, asks for HTML, follows nothing by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers["Accept"] = "text/html"

    def get(self, path: str, **more: Any) -> requests.Response:
        """One page."""
        return self.session.get(self.url + path, allow_redirects=False, timeout=30, **more)

    def sign_in(self, token: str, to: str = "/jobs", **headers: str) -> requests.Response:
        """Send the form."""
        form = {"token": token, "to": to}
        return self.session.post(
            self.url + "/sign-in", data=form, allow_redirects=False, timeout=30, headers=headers
        )


@pytest.fixture
def visitor(project: Project) -> Iterator[Visitor]:
    """Somebody who has signed in with the submit token."""
    made = Visitor(project.url)
    made.sign_in(project.tokens.submit)
    yield made
    made.session.close()


@pytest.fixture
def stranger(project: Project) -> Iterator[Visitor]:
    """Somebody who has not."""
    made = Visitor(project.url)
    yield made
    made.session.close()


@dataclass
class PassingToken:
    """A token that will be revoked."""

    database: Database
    secret: str
    token_id: str

    def revoke(self) -> None:
        """End it, as an administrator would."""
        with self.database.write() as session:
            revoke(session, self.token_id)


@pytest.fixture
def passing(project: Project, plane: ControlPlaneProcess) -> Iterator[PassingToken]:
    """A submit token of the project."""
    database = open_database(plane.data, plane.database_url)
    named = select(tables.Project.name).where(tables.Project.id == project.tokens.project_id)
    with database.write() as session:
        secret, token = make_token(session, session.scalars(named).one(), Role.SUBMIT)
    yield PassingToken(database, secret, token.id)
    database.close()


class Reader(HTMLParser):
    """What a page is made of: its elements, their attributes, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def run(project: Project, text: str, *, to: str = "Completed") -> str:
    """A job that says *text* wherever something can be said; its id."""
    agent_id = project.agent.register("lease", text)
    project.agent.read("PUT", f"/api/v2/agents/{agent_id}/display_name", {"display_name": text[:60]})
    parameters = {"prompt": text, text: [text]}
    made = project.submit.make_job(parameters, "@overmind:prompt_tuning")
    job_id: str = made["id"]
    project.agent.walk(job_id, agent_id, "Validating")
    held = {"Overmind-Attempt": "1"}
    project.agent.say(job_id, "Running", agent_id, body={"message": text})
    told = {"step": 1, "total_steps": 2, "step_name": text}
    project.agent.heartbeat(agent_id, (job_id, 1), progress=told)
    log = f"{text}\n".encode()
    project.agent.call("PUT", f"/api/v2/jobs/{job_id}/logs", log, params={"offset": 0}, headers=held)
    revision = made["file"]["revisions"][-1]["id"]
    body = project.agent.upload(text.encode(), text[:100], (revision,))
    project.agent.read("POST", f"/api/v2/models/{made['model_id']}/artifacts", body, headers=held)
    for number, word in enumerate(("keep", "discard")):
        step = {"job": job_id, "iteration_name": text[:64], "description": text, "agent_code": text}
        step |= {"avg_score": 40 + 10 * number, "order": number, "status": word}
        project.submit.read("POST", "/api/job-iterations/", step, status=201)
    if to == "Completed":
        project.agent.say(job_id, "Uploading", agent_id)
        outcome = hostile_outcome(text)
        answer = project.agent.say(job_id, to, agent_id, body={"message": text, "detail": {"outcome": outcome}})
        assert 200 == answer.status_code, answer.text
    return job_id


def hostile_outcome(text: str) -> dict[str, Any]:
    """An outcome with *text* in every key and value that the page knows, and in others."""
    metrics = {"avg_eval_score": 0.5, "avg_latency_ms": 12.5, "error": text}
    advice = {"verdict": text, "summary": text, "fastest": {"model": text}, "current_model": {"name": text}}
    return {
        "best_score": 61.5,
        "best_agent_code": f"{text}\nsecond line",
        "report_markdown": f"# {text}\n<script>alert(3)</script>",
        "distribution": {text: 3, "good": 5},
        "backtest_results": {
            "model_results": {text: {"aggregate_metrics": metrics}},
            "baseline_metrics": metrics,
            "recommendations": advice,
        },
        text: text,
        "nested": {text: [text]},
        "huge": 2**63 - 1,
    }


def events(answer: requests.Response) -> list[tuple[str, Any]]:
    """The events of a stream that has ended."""
    found = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


# ----------------------------------------------------------------------------------------------- visits


def test_who_has_not_signed_in_is_sent_to_the_form_and_then_on(project: Project, stranger: Visitor) -> None:
    sent = stranger.get("/agents")
    welcomed = stranger.sign_in(project.tokens.submit, "/agents")

    assert (303, "/sign-in?to=/agents") == (sent.status_code, sent.headers["Location"])
    assert (303, "/agents") == (welcomed.status_code, welcomed.headers["Location"])
    assert 200 == stranger.get("/agents").status_code


def test_the_cookie_is_out_of_reach_and_is_not_the_token(project: Project, stranger: Visitor) -> None:
    cookie = stranger.sign_in(project.tokens.submit).headers["Set-Cookie"]

    assert project.tokens.submit not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


def test_behind_tls_the_cookie_stays_there(project: Project, stranger: Visitor) -> None:
    welcomed = stranger.sign_in(project.tokens.submit, **{"X-Forwarded-Proto": "https"})

    assert "Secure" in welcomed.headers["Set-Cookie"].split("; ")


@pytest.mark.parametrize("token", ["", "ovr_garbage", "x" * 3000])
def test_a_token_that_is_not_accepted_opens_nothing(stranger: Visitor, token: str) -> None:
    refused = stranger.sign_in(token)

    assert 401 == refused.status_code
    assert "Set-Cookie" not in refused.headers


def test_an_agents_token_opens_nothing(project: Project, stranger: Visitor) -> None:
    assert 403 == stranger.sign_in(project.tokens.agent).status_code
    assert 303 == stranger.get("/jobs").status_code


@pytest.mark.parametrize("place", [0, 1, 2], ids=["token", "time", "signature"])
def test_a_cookie_that_was_changed_opens_nothing(visitor: Visitor, place: int) -> None:
    parts = visitor.session.cookies["overmind_visit"].split(".")
    visitor.session.cookies.clear()
    parts[place] = parts[place][:-1] + ("1" if parts[place].endswith("0") else "0")

    answer = visitor.get("/jobs", cookies={"overmind_visit": ".".join(parts)})

    assert 303 == answer.status_code


def test_a_visit_ends_with_the_request_after_the_token_is_revoked(passing: PassingToken, stranger: Visitor) -> None:
    stranger.sign_in(passing.secret)

    before = stranger.get("/jobs").status_code
    passing.revoke()

    assert (200, 303) == (before, stranger.get("/jobs").status_code)


def test_signing_out_takes_the_cookie_away(visitor: Visitor) -> None:
    visitor.session.post(visitor.url + "/sign-out", allow_redirects=False, timeout=30)

    assert 303 == visitor.get("/jobs").status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(project: Project, stranger: Visitor, headers: dict[str, str]) -> None:
    refused = stranger.sign_in(project.tokens.submit, **headers)

    assert 403 == refused.status_code
    assert "Set-Cookie" not in refused.headers


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:evil"])
def test_nobody_is_sent_elsewhere_after_signing_in(project: Project, stranger: Visitor, to: str) -> None:
    assert "/jobs" == stranger.sign_in(project.tokens.submit, to).headers["Location"]
    assert "evil" not in stranger.get("/sign-in", params={"to": to}).text


def test_tokens_are_for_administrators_and_show_no_secret(project: Project, visitor: Visitor) -> None:
    boss = Visitor(project.url)
    boss.sign_in(project.tokens.admin)

    shown = boss.get("/tokens")
    boss.session.close()

    assert (403, 200) == (visitor.get("/tokens").status_code, shown.status_code)
    assert 3 == shown.text.count("valid")
    assert not any(secret in shown.text for secret in vars(project.tokens).values() if secret.startswith("ovr_"))
    assert "/tokens" not in Reader(visitor.get("/jobs").text).addresses


# --------------------------------------------------------------------------------------- what is shown


def test_an_agent_is_shown_with_the_functions_of_its_host(project: Project, visitor: Visitor) -> None:
    modules = [("@overmind:executors", "1.0.0"), ("@acme:count", "1.0.0")]
    project.agent.register("lease", "job_type:inference", modules=modules)

    shown = visitor.get("/agents").text

    assert "function:@acme:count" in shown
    assert "function:@overmind" not in shown


def test_every_page_has_its_policy_whatever_it_says(project: Project, visitor: Visitor, stranger: Visitor) -> None:
    job_id = run(project, "plain")
    pages = ["/", "/jobs", f"/jobs/{job_id}", "/agents", "/tokens", "/sign-in", "/nothing", "/jobs?page=x"]
    pages += ["/docs", "/jobs?status=bogus", "/jobs/none", "/static/none", "/static/page.css", "/static/live.js"]
    pages += ["/jobs/live?wait_s=0", f"/jobs/{job_id}/live?wait_s=0", "/agents/live?wait_s=0"]

    answers = [(path, who.get(path)) for path in pages for who in (visitor, stranger)]

    policy = "Content-Security-Policy"
    assert [] == [path for path, answer in answers if HEADERS[policy] != answer.headers.get(policy)]
    assert "unsafe" not in HEADERS[policy]
    assert [] == [path for path, answer in answers if answer.status_code >= 500]


def test_what_a_job_brings_is_text_and_nothing_else(project: Project, visitor: Visitor) -> None:
    """The pages of a hostile job are made of the same elements and attributes as those of a harmless one."""
    calm, hostile = run(project, "harmless"), run(project, HOSTILE)

    for page in ("/jobs/{}", "/jobs", "/agents"):
        told = Reader(visitor.get(page.format(hostile)).text)
        expected = Reader(visitor.get(page.format(calm)).text)
        assert (expected.elements, expected.attributes) == (told.elements, told.attributes)
        assert not any("alert" in address for address in told.addresses)
        assert not {"style", "onerror", "onclick"} & told.attributes
    text = Reader(visitor.get(f"/jobs/{hostile}").text).text
    assert text.count("<script>alert(2)</script>{{7*7}}\ufffd") >= 20
    assert "\x1b" not in text


def test_what_comes_later_is_text_too(project: Project, visitor: Visitor) -> None:
    job_id = run(project, HOSTILE)

    told = events(visitor.get(f"/jobs/{job_id}/live", params={"wait_s": 0}))

    parts = {event["name"]: Reader(event["html"]) for name, event in told if name == "part"}
    assert {"state", "history", "outcome", "made"} == set(parts)
    assert not set().union(*(part.elements for part in parts.values())) & {"script", "img", "iframe"}
    assert [("end", {})] == [event for event in told if event[0] == "end"]


def test_a_job_shows_what_it_came_to(project: Project, visitor: Visitor) -> None:
    text = Reader(visitor.get(f"/jobs/{run(project, 'WORD')}").text).text

    parts = ("Completed", "61.5", "Verdict: WORD", "Iterations", "What changed", "+second line", "Distribution")
    assert [] == [part for part in parts if part not in text]


def test_why_a_job_failed_stands_at_its_top(project: Project, visitor: Visitor) -> None:
    agent_id = project.agent.register()
    job_id = project.submit.make_job()["id"]
    project.agent.walk(job_id, agent_id, "Running")
    body = {"message": "no_score: 3 x timeout", "detail": {"reason": "no_score"}}
    project.agent.say(job_id, "Failed", agent_id, body=body)

    text = Reader(visitor.get(f"/jobs/{job_id}").text).text

    assert ["no_score", "3 x timeout", "Made"] == re.findall("no_score|3 x timeout|Made", text)[:3]


def test_a_job_that_ended_early_says_so_at_its_top_and_no_latency_of_nothing(
    project: Project, visitor: Visitor
) -> None:
    agent_id = project.agent.register()
    job_id = project.submit.make_job({}, "@overmind:judge_scoring")["id"]
    project.agent.walk(job_id, agent_id, "Uploading")
    outcome = {
        "counts": {"total": 3, "ok": 0, "failed": 2, "skipped": 1},
        "latency_ms": {"p50": 0.0, "p95": 0.0},
        "termination_reason": "provider_unavailable",
    }
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": outcome}})

    text = Reader(visitor.get(f"/jobs/{job_id}").text).text

    assert "ended early: provider unavailable" in text.split("Made")[0]
    assert "0 of 3" in text
    assert "Latency" not in text


def test_the_price_of_a_request_is_told_by_the_thousand(project: Project, visitor: Visitor) -> None:
    agent_id = project.agent.register()
    job_id = project.submit.make_job({}, "@overmind:model_backtesting")["id"]
    project.agent.walk(job_id, agent_id, "Uploading")
    metrics = {"avg_cost_per_request": 2.411e-06}
    outcome = {"backtest_results": {"model_results": {"mini": {"aggregate_metrics": metrics}}}}
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": outcome}})

    text = Reader(visitor.get(f"/jobs/{job_id}").text).text

    assert "cost of 1,000 requests, $" in text
    assert "0.0024" in text.split("cost of 1,000 requests, $")[1].split("All of it")[0]


@pytest.mark.parametrize(
    "outcome",
    [
        {"backtest_results": {"a": 1}},
        {"backtest_results": ["x"]},
        {"distribution": {"a": -1, "b": "x"}},
        {"distribution": "x"},
        {"iterations": [1, {"avg_score": "x"}, {"avg_score": 1e300}, {}]},
        {"result": None, "errors": [{}]},
        {"backtest_results": {"model_results": {"m": {"aggregate_metrics": 3}}, "recommendations": "x"}},
        {"backtest_results": {"m": {"avg_total": 84.2, "count": 3}, "n": {"avg_total": 0, "error": "no"}}},
    ],
)
def test_an_outcome_of_another_shape_is_shown_as_it_is(
    project: Project, visitor: Visitor, outcome: dict[str, Any]
) -> None:
    agent_id = project.agent.register()
    job_id = project.submit.make_job([1], "@someone:thing")["id"]
    project.agent.walk(job_id, agent_id, "Uploading")
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": outcome}})

    assert 200 == visitor.get(f"/jobs/{job_id}").status_code


@pytest.mark.parametrize(
    ("scored_on", "shown", "hidden"),
    [
        (
            "holdout",
            ["of 100, on 32 held-out rows", "Scores on the 15 validation rows", "on 32 held-out rows that it"],
            [],
        ),
        ("validation", ["of 100, on 15 validation rows", "Scores on the 15 validation rows"], ["held-out"]),
        (["x"], ["Scores on the 15 validation rows"], ["held-out", "of 100, on"]),
    ],
)
def test_scores_of_different_rows_say_which_rows_they_are_of(
    project: Project, visitor: Visitor, scored_on: Any, shown: list[str], hidden: list[str]
) -> None:
    agent_id = project.agent.register()
    job_id = project.submit.make_job([1], "@someone:thing")["id"]
    project.agent.walk(job_id, agent_id, "Uploading")
    steps = [{"order": 0, "iteration_name": "baseline", "avg_score": 60, "status": "keep", "agent_code": "x"}]
    used = {"data_sources_used": {"validation": 15}, "test": {"compared": 32}, "iterations": steps}
    outcome = {**used, "scored_on": scored_on, "baseline_score": 40.0}
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": outcome}})

    text = " ".join(Reader(visitor.get(f"/jobs/{job_id}").text).text.partition("All of it")[0].split())

    assert [] == [part for part in shown if part not in text]
    assert [] == [part for part in hidden if part in text]


def test_a_prompt_that_is_too_different_to_compare_is_shown_as_it_is(project: Project, visitor: Visitor) -> None:
    before = "\n".join("ab"[place % 2] for place in range(199))
    after = "\n".join("ab"[place % 3 == 0] for place in range(198)) + "\nthe last line"
    agent_id = project.agent.register()
    job_id = project.submit.make_job({"prompt": before}, "@someone:thing")["id"]
    project.agent.walk(job_id, agent_id, "Uploading")
    project.agent.say(job_id, "Completed", agent_id, body={"detail": {"outcome": {"best_agent_code": after}}})

    text = Reader(visitor.get(f"/jobs/{job_id}").text).text

    assert "too different to be compared line by line: 199 lines before, 199 now" in text
    assert "the last line" in text.partition("Best version")[2].partition("Log")[0]


def test_files_and_logs_are_given_away_and_never_shown(project: Project, visitor: Visitor) -> None:
    job_id = run(project, "<script>alert(1)</script>")
    addresses = [a for a in Reader(visitor.get(f"/jobs/{job_id}").text).addresses if f"/{job_id}/" in a]

    answers = [visitor.get(address) for address in addresses]

    assert 2 == len(answers)
    assert {"application/octet-stream"} == {answer.headers["Content-Type"] for answer in answers}
    assert all(answer.headers["Content-Disposition"].startswith("attachment") for answer in answers)
    policy = "Content-Security-Policy"
    assert {DOWNLOAD_HEADERS[policy]} == {answer.headers[policy] for answer in answers}
    assert b"<script>alert(1)</script>" in answers[0].content


def test_a_file_without_a_byte_is_given_away_too(project: Project, visitor: Visitor) -> None:
    agent_id = project.agent.register()
    made = project.submit.make_job({})
    project.agent.walk(made["id"], agent_id, "Running")
    body = project.agent.upload(b"", "größe.txt", (made["file"]["revisions"][-1]["id"],))
    project.agent.read("POST", f"/api/v2/models/{made['model_id']}/artifacts", body)
    addresses = Reader(visitor.get(f"/jobs/{made['id']}").text).addresses

    answer = visitor.get(next(address for address in addresses if "/files/" in address))

    assert (200, b"") == (answer.status_code, answer.content)
    assert "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt" == answer.headers["Content-Disposition"]


def test_jobs_are_found_by_their_type_and_status(project: Project, visitor: Visitor) -> None:
    waiting = project.submit.make_job({}, "@overmind:inference")["id"]
    canceled = project.submit.make_job({}, "@overmind:judge_scoring")["id"]
    project.submit.cancel(canceled)

    def found(**query: str) -> set[str]:
        shown = Reader(visitor.get("/jobs", params=query).text).addresses
        return {job_id for job_id in (waiting, canceled) if f"/jobs/{job_id}" in shown}

    assert {waiting, canceled} == found()
    assert {waiting} == found(job_type="inference")
    assert {canceled} == found(status="cancelled")
    assert set() == found(job_type="inference", status="canceled")


# ------------------------------------------------------------------------------------------------ live


def test_a_log_is_followed_from_where_the_page_ends_and_letters_stay_whole(
    project: Project, visitor: Visitor
) -> None:
    agent_id = project.agent.register()
    job_id = project.submit.make_job({})["id"]
    project.agent.walk(job_id, agent_id, "Running")
    address, held = f"/api/v2/jobs/{job_id}/logs", {"Overmind-Attempt": "1"}
    raw = "grüße\n".encode()
    project.agent.call("PUT", address, raw[:3], params={"offset": 0}, headers=held)

    stream = visitor.get(f"/jobs/{job_id}/live", params={"wait_s": 30}, stream=True)
    lines = stream.iter_lines(decode_unicode=True)
    first = next(line for line in lines if '"text"' in line)
    project.agent.call("PUT", address, raw[3:], params={"offset": 3}, headers=held)
    second = next(line for line in lines if '"text"' in line)
    project.submit.cancel(job_id)
    last = [line for line in lines if line.startswith("event: ")]

    assert ({"text": "gr"}, {"text": "üße\n"}) == (json.loads(first[6:]), json.loads(second[6:]))
    assert "event: end" == last[-1]


def test_a_stream_goes_on_where_it_broke_off(project: Project, visitor: Visitor) -> None:
    job_id = run(project, "0123456789")

    told = events(visitor.get(f"/jobs/{job_id}/live?offset=2&wait_s=0", headers={"Last-Event-ID": "7"}))

    assert [{"text": "789\n"}] == [event for name, event in told if name == "log"]


def test_a_stream_ends_when_its_token_does(passing: PassingToken, stranger: Visitor) -> None:
    stranger.sign_in(passing.secret)
    stream = stranger.get("/agents/live", params={"wait_s": 3600}, stream=True)
    lines = stream.iter_lines()
    next(lines)

    passing.revoke()

    assert all(b"part" not in line for line in list(lines)[8:])
