"""A model as executors use it: every call journalled, within the budget, never asked twice for one thing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls.answer_cache import AnswerCache
from overmind_executors.calls.answers import Answer, Kind
from overmind_executors.calls.budget import Limits, Purse
from overmind_executors.calls.model_client import GivenUp, Interrupted, ModelClient, ProviderGone
from overmind_executors.calls.pacing import RetryPolicy
from overmind_executors.calls.paid_calls import SHARED, CallKey, Lives, PaidCalls
from overmind_executors.calls.prices import Prices, cost_usd, price_notes, prices_of
from overmind_executors.contract import Context, ExecutionFailed, ModelEndpoint
from overmind_executors.trace_context import TraceContext

JOURNAL: Final = "paid_calls.sqlite"
BUDGET_EXHAUSTED: Final = "budget_exhausted"
PROVIDER_UNAVAILABLE: Final = "provider_unavailable"
AUTH_ERROR: Final = "model_auth_error"
QUOTA_EXHAUSTED: Final = "model_quota_exhausted"
# What one row met and every other would meet too.
_ENDS_ALL: Final = {Kind.AUTH_ERROR: AUTH_ERROR, Kind.QUOTA_EXHAUSTED: QUOTA_EXHAUSTED}


def digest_of(body: Mapping[str, Any]) -> bytes:
    """What two requests have in common when they are one, whichever model is asked."""
    return hashlib.sha256(strict_json.canonical(body)).digest()


class Halt:
    """
    Why no further call is made in this job: the first reason stays. Safe from any thread.

    The reason is the `termination_reason` of a job with outputs, and the reason of the failure of one without.

    Args:
        on_set: given the reason.
    """

    def __init__(self, on_set: Callable[[str], object] = lambda _reason: None) -> None:
        self._on_set = on_set
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._words = ""

    @property
    def reason(self) -> str | None:
        """None while calls may be made."""
        return self._reason

    @property
    def words(self) -> str:
        """What there is to say beside the reason; empty for nothing."""
        return self._words

    def set(self, reason: str, words: str = "") -> None:
        """Make no further call."""
        with self._lock:
            if self._reason is None:
                self._reason, self._words = reason, words
        self._on_set(reason)


@dataclass(frozen=True)
class NotAsked:
    """The call was not made, for the reason that `Halt` has, and with its words."""

    reason: str
    words: str = ""


class _OutOfBudget(Exception):
    """The purse gave no call."""


class Account:
    """What a job may spend and has spent, over all the models that it asks: one purse, one journal."""

    def __init__(self, context: Context, limits: Limits, policy: RetryPolicy | None = None) -> None:
        self.calls = PaidCalls(context.state / JOURNAL)
        self.purse = Purse(limits.within(context.spend_limits), self.calls.spent())
        self._context = context
        self._policy = policy
        self._models: list[PaidModel] = []

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_raised: object) -> None:
        with ExitStack() as at_the_end:
            at_the_end.callback(self.calls.close)
            for model in self._models:
                at_the_end.enter_context(model)

    def open(self, endpoint: ModelEndpoint) -> PaidModel:
        """A model that is paid from here, until the account is closed."""
        made = PaidModel(endpoint, self._context, policy=self._policy, account=self)
        self._models.append(made)
        return made

    def prices(self) -> dict[str, dict[str, Any] | None]:
        """What its models cost, by name, and where that is from."""
        return price_notes(model.endpoint for model in self._models)

    @property
    def halted_by(self) -> str | None:
        """Why one of its models, the first in the order of opening, is asked no more; None while all are."""
        return next((model.halt.reason for model in self._models if model.halt.reason), None)

    @property
    def halted_words(self) -> str:
        """What there is to say of that; empty for nothing."""
        return next((model.halt.words for model in self._models if model.halt.words), "")

    def halt(self, reason: str) -> None:
        """Ask none of its models any more."""
        for model in self._models:
            model.halt.set(reason)

    def cut_after(self, seconds: float) -> None:
        """See PaidModel; the seconds are those of all models together."""
        ends_at = time.monotonic() + seconds
        for model in self._models:
            model.cut_after(max(0.0, ends_at - time.monotonic()))


class PaidModel:
    """
    One endpoint within one job.

    Asked from the engine's threads. Opened at the beginning of a job and closed at its end; what it has paid for is
    in the journal `paid_calls.sqlite` of `Context.state`.

    Args:
        account: of a job that asks several models, which closes it; else there is one of its own, with *limits*.

    Attributes:
        cache: None at first; set it to have answers of earlier jobs, and to keep those that come, from then on.
    """

    def __init__(
        self,
        endpoint: ModelEndpoint,
        context: Context,
        *,
        limits: Limits | None = None,
        policy: RetryPolicy | None = None,
        account: Account | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.prices: Prices | None = prices_of(endpoint)
        if self.prices is None and "max_usd" in context.spend_limits:
            raise ExecutionFailed(
                f"the price of model {endpoint.name} is not known, and policy.max_usd of this host limits what "
                f"a job may spend; set models.{endpoint.name}.input_price and output_price",
                reason="model_unpriced",
            )
        self.cache: AnswerCache | None = None
        self._address = endpoint.base_url
        self._stop = context.stop
        self._trace, self._tally = context.trace, context.tally
        self._client = ModelClient(endpoint, stop=context.stop, policy=policy)
        self.halt = Halt(self._on_halt)
        self._account = account or Account(context, limits or Limits())
        self._closes_account = account is None
        self._calls, self._purse = self._account.calls, self._account.purse
        self._lock = threading.Lock()
        self._shared: dict[CallKey, Future[Answer | NotAsked]] = {}

    def __enter__(self) -> PaidModel:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._client.close()
        if self._closes_account:
            self._calls.close()

    def ask(
        self, body: Mapping[str, Any], *, row_id: str, repetition: int, timeout_s: float, is_shared: bool = False
    ) -> Answer | NotAsked:
        """
        The answer to *body*, from the journal if it is there.

        Args:
            body: of a chat completion, or with the `input` of a model for embeddings; `model` is set here.
            is_shared: ask once for all equal requests of that *repetition*, whichever rows they are of.

        Raises:
            ExecutionFailed: the journal cannot be written.
        """
        full = {**body, "model": self.endpoint.model}
        key = CallKey(digest_of(full).hex(), SHARED if is_shared else row_id, repetition)
        return self._ask_for_all(key, full, timeout_s) if is_shared else self._ask(key, full, timeout_s)

    def _ask_for_all(self, key: CallKey, full: Mapping[str, Any], timeout_s: float) -> Answer | NotAsked:
        with self._lock:
            running = self._shared.get(key)
            mine: Future[Answer | NotAsked] = Future()
            if running is None:
                self._shared[key] = mine
        if running is not None:
            return running.result()
        try:
            mine.set_result(self._ask(key, full, timeout_s))
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._shared[key]
        return mine.result()

    def _ask(self, key: CallKey, full: Mapping[str, Any], timeout_s: float) -> Answer | NotAsked:
        earlier = self._calls.earlier(key)
        if earlier.answer is not None and earlier.is_final:
            self._judge(earlier.answer)
            return earlier.answer
        if self.halt.reason or self._stop.is_set():
            return self._not_asked(self.halt.reason or "stopped")
        if (known := self._remembered(key)) is not None:
            self._calls.keep(key, earlier.number + 1, known)
            return known
        record = _Record(self, key, earlier.number)
        try:
            answer = self._client.ask(full, timeout_s=timeout_s, record=record, earlier=earlier.answer)
        except _OutOfBudget:
            self.halt.set(BUDGET_EXHAUSTED)
            return self._not_asked(BUDGET_EXHAUSTED)
        except ProviderGone as gone:
            self.halt.set(PROVIDER_UNAVAILABLE, self._silence())
            return gone.answer
        except GivenUp:
            return self._not_asked(self.halt.reason or PROVIDER_UNAVAILABLE)
        except Interrupted:
            return self._not_asked("stopped")
        self._judge(answer)
        if self.cache is not None:
            self.cache.keep(self._address, key.request, key.repetition, answer)
        return replace(answer, cost_usd=cost_usd(answer, self.prices))

    def _silence(self) -> str:
        silent_s = self._client.silent_for_s
        if silent_s is None:
            return ""
        name = self.endpoint.name
        return (
            f"the server of model {name} took calls and answered nothing for {silent_s:.0f} s; "
            f"if it is slow and well, set models.{name}.timeout_s on its host"
        )

    def _on_halt(self, reason: str) -> None:
        """Those that wait for their turn are let go; but what the purse has given them is theirs."""
        if reason != BUDGET_EXHAUSTED:
            self._client.shut()

    def _remembered(self, key: CallKey) -> Answer | None:
        if self.cache is None:
            return None
        return self.cache.find(self._address, key.request, key.repetition)

    def _not_asked(self, reason: str) -> NotAsked:
        self._tally.refused(self.endpoint.name, reason)
        return NotAsked(reason, self.halt.words)

    def spent_calls(self) -> int:
        """HTTP calls made for this job, over all its attempts."""
        return self._calls.spent().calls

    def lives(self) -> Lives:
        """How long was called, over all attempts of the job."""
        return self._calls.lives()

    def cut_after(self, seconds: float) -> None:
        """Give running calls *seconds* seconds, then end them; for when the job is to stop."""
        self._client.cut_after(seconds)

    def _judge(self, answer: Answer) -> None:
        """A key that is refused once is refused for every row, and so is an account that is used up."""
        if answer.kind in _ENDS_ALL:
            self.halt.set(_ENDS_ALL[answer.kind])


class _Record:
    """Fills the port `CallRecord` for one row: purse first, journal second, then the call."""

    def __init__(self, model: PaidModel, key: CallKey, number: int) -> None:
        self._model = model
        self._key = key
        self._number = number

    @property
    def _span(self) -> TraceContext | None:
        """Of the call that was reserved last: the same one whenever it is asked for."""
        return self._model._trace and self._model._trace.child("call", *self._key.columns(), self._number)

    @property
    def traceparent(self) -> str:
        """See CallRecord."""
        return str(self._span or "")

    def reserve(self) -> None:
        """Take the call from the purse; raises _OutOfBudget when there is none to take."""
        if not self._model._purse.take_call():
            raise _OutOfBudget
        self._number += 1

    def sent(self) -> None:
        """Return once the disk knows that the call is made."""
        self._model._calls.sent(self._key, self._number)

    def done(self, answer: Answer, *, is_final: bool) -> None:
        """Note what came and what it cost."""
        cost = cost_usd(answer, self._model.prices)
        answer = replace(answer, cost_usd=cost)
        self._model._calls.done(self._key, self._number, answer, is_final=is_final)
        self._model._tally.ended(self._model.endpoint.name, answer, self._span)
        self._model._purse.pay(
            tokens=(answer.prompt_tokens or 0) + (answer.completion_tokens or 0), usd=cost or 0.0
        )
