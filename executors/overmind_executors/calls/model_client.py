"""Questions to an OpenAI-compatible endpoint: one call with its retries, within the endpoint's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, Protocol

from overmind_executors import strict_json
from overmind_executors.calls import answers, embeddings
from overmind_executors.calls.answers import Answer, Kind, Reading
from overmind_executors.calls.breaker import Breaker
from overmind_executors.calls.cluster import QUEUE_S, ClusterHttp, connect
from overmind_executors.calls.gate import Gate, GateClosed, Health
from overmind_executors.calls.pacing import RetryBudget, RetryPolicy, next_wait_s
from overmind_executors.calls.refusals import Told, told
from overmind_executors.calls.send_limits import SendLimits, Sent, Signal
from overmind_executors.calls.silence import Silence
from overmind_executors.calls.timed_http import AnswerTooLarge, CallFailed, DeadlinePassed, TimedHttp
from overmind_executors.contract import ModelEndpoint, ModelKind, Stop

_USER_AGENT: Final = f"overmind-agent/{version('overmind-agent')}"


# What each end of a call says about the limits, and about the provider as a whole. A 429 also says which limit.
_MEANINGS: Final[Mapping[Kind, tuple[Signal, Health]]] = {
    Kind.OK: (Signal.TAKEN, Health.ANSWERED),
    Kind.TRUNCATED: (Signal.TAKEN, Health.ANSWERED),
    Kind.REFUSED: (Signal.TAKEN, Health.ANSWERED),
    Kind.CONTENT_FILTER: (Signal.TAKEN, Health.ANSWERED),
    Kind.INVALID_RESPONSE: (Signal.TAKEN, Health.ANSWERED),
    Kind.BAD_REQUEST: (Signal.TAKEN, Health.ANSWERED),
    Kind.AUTH_ERROR: (Signal.NOTHING, Health.ANSWERED),
    Kind.QUOTA_EXHAUSTED: (Signal.NOTHING, Health.ANSWERED),
    Kind.RATE_LIMITED: (Signal.REFUSED, Health.ANSWERED),
    # Fewer calls at once are all that can help a server that has too many, or that answers nobody in time.
    Kind.OVERLOADED: (Signal.REFUSED_CONCURRENCY, Health.FAILED),
    Kind.TIMEOUT: (Signal.REFUSED_CONCURRENCY, Health.UNKNOWN),
    Kind.NETWORK_ERROR: (Signal.NOTHING, Health.FAILED),
    Kind.PROVIDER_ERROR: (Signal.NOTHING, Health.FAILED),
    # Of what becomes of an answer later, and of programs, which are not asked here.
    Kind.SCHEMA_MISMATCH: (Signal.TAKEN, Health.ANSWERED),
    Kind.CRASH: (Signal.NOTHING, Health.UNKNOWN),
    Kind.IMPORT_ERROR: (Signal.NOTHING, Health.UNKNOWN),
    Kind.MEMORY_LIMIT: (Signal.NOTHING, Health.UNKNOWN),
    Kind.PROCESS_LIMIT: (Signal.NOTHING, Health.UNKNOWN),
    Kind.DISK_LIMIT: (Signal.NOTHING, Health.UNKNOWN),
}

# Where a model of each kind is asked, and how its answer is read.
_WAYS: Final[Mapping[ModelKind, tuple[str, Reading]]] = {
    "chat": ("/chat/completions", answers.completion),
    "embeddings": ("/embeddings", embeddings.vectors),
}

# A row that is refused more often than that says something about itself, not about the limits of all.
_MOST_TELLING: Final = 2


class CallRecord(Protocol):
    """Who is told of each HTTP call; called on the asking thread, in the order reserve, sent, done, reserve…"""

    @property
    def traceparent(self) -> str:
        """Goes with the call that was reserved last; empty for none."""

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


class GivenUp(Exception):
    """This model is asked no more, which came about while the call waited for its turn; it was not made."""


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
        self._http: TimedHttp | ClusterHttp = (
            connect(endpoint)
            if endpoint.dask_scheduler
            else TimedHttp(proxy=endpoint.proxy, ca_file=endpoint.ca_file)
        )
        self._gate = Gate(
            SendLimits(endpoint.max_concurrency),
            Breaker(base_s=self._policy.base_s, cap_s=self._policy.cap_s),
            stop,
        )
        self._retries = RetryBudget(self._policy.budget)
        # On a cluster calls wait for workers, so that silence says less.
        first_s = endpoint.timeout_s + QUEUE_S if endpoint.dask_scheduler else endpoint.silence_s
        self._silence = Silence(first_s=first_s, later_s=endpoint.timeout_s, on_silent=self._give_up)
        path, self._reading = _WAYS[endpoint.kind]
        self._url = endpoint.base_url.rstrip("/") + path
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
            ProviderGone: the job has no retries left, or the model was shut after a failure of this call.
            GivenUp: it was shut before this call was made.
            Interrupted: the stop flag was set.
        """
        raw = strict_json.dumps(body).encode()
        wait_s = self._policy.base_s
        attempts, refusals = (earlier.attempts, earlier.refusals) if earlier else (0, 0)
        last: Answer | None = None
        while True:
            try:
                answer, asked_s = self._attempt(raw, body, timeout_s, record, refusals)
            except GateClosed:
                if self._stop.is_set():
                    raise Interrupted from None
                raise (ProviderGone(last) if last else GivenUp()) from None
            attempts += 1
            refusals += answer.kind.is_refusal
            answer = replace(answer, attempts=attempts, refusals=refusals)
            if answer.status is None and self.silent_for_s is not None:
                # Nothing that is known of this row stands: a later life of the job asks again.
                record.done(answer, is_final=False)
                raise ProviderGone(answer)
            again = self._may_go_on(answer)
            gone = answer.kind.is_worth_retrying and (self._gate.is_dead() or (again and not self._retries.take()))
            record.done(answer, is_final=not again or gone)
            if gone:
                raise ProviderGone(answer)
            if not again:
                self._note_success(answer)
                return answer
            last = answer
            wait_s = next_wait_s(wait_s, self._policy)
            if asked_s is None and self._stop.wait(wait_s):
                raise Interrupted

    @property
    def silent_for_s(self) -> float | None:
        """How long the provider had answered nothing when it was given up for that; None where it was not."""
        return self._silence.lasted_s

    def shut(self) -> None:
        """Make no further call, not for those either who wait for their turn."""
        self._gate.shut()

    def cut_after(self, seconds: float) -> None:
        """Give running calls *seconds* seconds, then end them; with the stop flag set they raise Interrupted."""
        self._http.cut_after(seconds)

    def close(self) -> None:
        """Give back what the calls were made with."""
        self._silence.close()
        self._http.close()

    def _give_up(self) -> None:
        """Nobody is let through any more, and who waits for an answer waits no longer."""
        self._gate.shut()
        self._http.cut_after(0.0)

    def _attempt(
        self, raw: bytes, body: Mapping[str, Any], timeout_s: float, record: CallRecord, refusals: int
    ) -> tuple[Answer, float | None]:
        """One HTTP call: what came of it, and how long the provider asks everybody to wait."""
        record.reserve()
        sent = self._gate.enter()
        answer, said = None, Told(Signal.NOTHING, None)
        try:
            record.sent()
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            limit_s = min(timeout_s, self._endpoint.timeout_s)
            answer, said = self._post(raw, body, limit_s, record.traceparent)
        finally:
            self._leave(sent, answer, said, refusals)
        if self._stop.is_set() and answer.status is None:
            raise Interrupted
        return replace(answer, started_at=started_at), said.wait_s

    def _leave(self, sent: Sent, answer: Answer | None, said: Told, refusals: int) -> None:
        if answer is None:
            self._gate.leave(sent, Signal.NOTHING)
            return
        signal, health = _MEANINGS[answer.kind]
        if answer.kind is Kind.RATE_LIMITED:
            signal = said.limit
        if answer.kind.is_refusal and refusals >= _MOST_TELLING:
            signal = Signal.NOTHING
        self._gate.leave(sent, signal, health, pause_s=said.wait_s)

    def _post(self, raw: bytes, body: Mapping[str, Any], timeout_s: float, traceparent: str) -> tuple[Answer, Told]:
        nothing = Told(Signal.NOTHING, None)
        try:
            with self._silence.call():
                reply = self._http.post(
                    self._url, body=raw, headers=self._headers, timeout_s=timeout_s, traceparent=traceparent
                )
                self._silence.broken()
        except DeadlinePassed as error:
            silent_s = self.silent_for_s
            why = str(error) if silent_s is None else f"the model's server answered nothing for {silent_s:.0f} s"
            return Answer(Kind.TIMEOUT, message=why), nothing
        except AnswerTooLarge as error:
            self._silence.broken()
            return Answer(Kind.INVALID_RESPONSE, message=str(error)), nothing
        except CallFailed as error:
            return Answer(Kind.NETWORK_ERROR, message=str(error)), nothing
        answer = answers.read(reply, secret=self._endpoint.api_key, request=body, reading=self._reading)
        return answer, told(reply.headers, answer.message) if answer.kind.is_worth_retrying else nothing

    def _may_go_on(self, answer: Answer) -> bool:
        if not answer.kind.is_worth_retrying:
            return False
        policy = self._policy
        return answer.refusals < policy.most_refusals and answer.attempts - answer.refusals < policy.most_attempts

    def _note_success(self, answer: Answer) -> None:
        if answer.kind.has_output:
            self._retries.give_back()
