"""Chat completions on an OpenAI-compatible endpoint: one call with its retries, within the endpoint's limits."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, Protocol

from overmind_executors import answers, strict_json
from overmind_executors.answers import Answer, Kind
from overmind_executors.contract import ModelEndpoint, Stop
from overmind_executors.pacing import Pause, RetryBudget, RetryPolicy, next_wait_s, retry_after_s
from overmind_executors.timed_http import AnswerTooLarge, CallFailed, DeadlinePassed, TimedHttp

_USER_AGENT: Final = f"overmind-agent/{version('overmind-agent')}"


class CallRecord(Protocol):
    """Who is told of each HTTP call; called on the asking thread, in the order reserve, sent, done, reserve…"""

    def reserve(self) -> None:
        """A call is to be made once the limits let it. Raises to forbid it; then it is not made."""

    def sent(self) -> None:
        """It is made as soon as this returns."""

    def done(self, answer: Answer, *, is_final: bool) -> None:
        """It has ended; when not final it will be tried again."""


class ProviderGone(Exception):
    """The retries of this job are used up: the provider fails all the time. Carries the last failure."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class Interrupted(Exception):
    """The job was asked to stop while this call waited or ran; nothing of it was recorded as done."""


class ModelClient:
    """
    One endpoint, asked from any number of threads. Does not know what is paid for or kept: see paid_model.
    """

    def __init__(self, endpoint: ModelEndpoint, *, stop: Stop, policy: RetryPolicy | None = None) -> None:
        self._endpoint = endpoint
        self._stop = stop
        self._policy = policy or RetryPolicy()
        self._http = TimedHttp()
        self._pause = Pause()
        self._retries = RetryBudget(self._policy.budget)
        self._in_flight = threading.BoundedSemaphore(endpoint.max_concurrency)
        self._url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": _USER_AGENT,
        }
        if endpoint.api_key:
            self._headers["Authorization"] = f"Bearer {endpoint.api_key}"

    def ask(
        self, body: Mapping[str, Any], *, timeout_s: float, record: CallRecord, earlier: Answer | None = None
    ) -> Answer:
        """
        The answer to *body*, after as many attempts as it takes and the policy allows.

        Args:
            timeout_s: for each attempt; the endpoint's own limit holds too.
            earlier: the last failed attempt at this call in an earlier life of the job, whose counts go on.

        Raises:
            ProviderGone: the job has no retries left.
            Interrupted: the stop flag was set.
        """
        raw = strict_json.dumps(body).encode()
        wait_s = self._policy.base_s
        attempts, refusals = (earlier.attempts, earlier.refusals) if earlier else (0, 0)
        while True:
            answer, asked_s = self._attempt(raw, body, timeout_s, record)
            attempts += 1
            refusals += answer.kind is Kind.RATE_LIMITED
            answer = replace(answer, attempts=attempts, refusals=refusals)
            again = self._may_go_on(answer)
            gone = again and not self._retries.take()
            record.done(answer, is_final=not again or gone)
            if gone:
                raise ProviderGone(answer)
            if not again:
                self._note_success(answer)
                return answer
            wait_s = next_wait_s(wait_s, self._policy)
            self._hold_back(answer, wait_s if asked_s is None else asked_s)

    def cut_after(self, seconds: float) -> None:
        """Give running calls *seconds* seconds, then end them; with the stop flag set they raise Interrupted."""
        self._http.cut_after(seconds)

    def _attempt(
        self, raw: bytes, body: Mapping[str, Any], timeout_s: float, record: CallRecord
    ) -> tuple[Answer, float | None]:
        """One HTTP call: what came of it, and how long the server asks us to wait."""
        record.reserve()
        with self._in_flight:
            self._pause.wait(self._stop)
            if self._stop.is_set():
                raise Interrupted
            record.sent()
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            answer, asked_s = self._post(raw, body, min(timeout_s, self._endpoint.timeout_s))
        if self._stop.is_set() and answer.status is None:
            raise Interrupted
        return replace(answer, started_at=started_at), asked_s

    def _post(self, raw: bytes, body: Mapping[str, Any], timeout_s: float) -> tuple[Answer, float | None]:
        try:
            reply = self._http.post(self._url, body=raw, headers=self._headers, timeout_s=timeout_s)
        except DeadlinePassed as error:
            return Answer(Kind.TIMEOUT, message=str(error)), None
        except AnswerTooLarge as error:
            return Answer(Kind.INVALID_RESPONSE, message=str(error)), None
        except CallFailed as error:
            return Answer(Kind.NETWORK_ERROR, message=str(error)), None
        wants_json = str(_type_of(body.get("response_format"))).startswith("json")
        answer = answers.read(reply, secret=self._endpoint.api_key, wants_json=wants_json)
        return answer, retry_after_s(reply.headers)

    def _may_go_on(self, answer: Answer) -> bool:
        if not answer.kind.is_worth_retrying:
            return False
        policy = self._policy
        return answer.refusals < policy.most_refusals and answer.attempts - answer.refusals < policy.most_attempts

    def _note_success(self, answer: Answer) -> None:
        if answer.kind.has_output:
            self._retries.give_back()

    def _hold_back(self, answer: Answer, wait_s: float) -> None:
        if answer.kind is Kind.RATE_LIMITED:
            self._pause.extend(wait_s)  # everybody's
        elif self._stop.wait(wait_s):
            raise Interrupted


def _type_of(response_format: Any) -> Any:
    return response_format.get("type", "") if isinstance(response_format, dict) else ""
