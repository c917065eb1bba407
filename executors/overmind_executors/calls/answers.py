"""What came of asking a model: one of a closed list of kinds, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from overmind_executors import strict_json
from overmind_executors.calls import streamed
from overmind_executors.calls.refusals import is_about_money
from overmind_executors.calls.timed_http import Reply

MAX_MESSAGE: Final = 500
# Far beyond any model's context; sums of such counts stay within SQLite's 64 bits.
MAX_TOKENS: Final = 10**9
# The journal and `output.jsonl` put an answer into objects of their own, which must be read again.
_WRAPPING_LEVELS: Final = 2


class Kind(StrEnum):
    """How a call ended. The first two have an output."""

    OK = "ok"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    CONTENT_FILTER = "content_filter"
    INVALID_RESPONSE = "invalid_response"
    SCHEMA_MISMATCH = "schema_mismatch"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    QUOTA_EXHAUSTED = "quota_exhausted"
    PROVIDER_ERROR = "provider_error"
    AUTH_ERROR = "auth_error"
    BAD_REQUEST = "bad_request"
    CRASH = "crash"
    IMPORT_ERROR = "import_error"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    DISK_LIMIT = "disk_limit"

    @property
    def has_output(self) -> bool:
        """Whether there is text to use."""
        return self in (Kind.OK, Kind.TRUNCATED)

    @property
    def is_worth_retrying(self) -> bool:
        """Whether the same call may go better in a moment. A time-out has used up its row's time."""
        return self.is_refusal or self in (Kind.NETWORK_ERROR, Kind.PROVIDER_ERROR)

    @property
    def is_refusal(self) -> bool:
        """Whether the provider is well and has too much to do."""
        return self in (Kind.RATE_LIMITED, Kind.OVERLOADED)


@dataclass(frozen=True)
class Answer:
    """
    One answer, or why there is none.

    Attributes:
        status: of HTTP, None when no answer came.
        body: the provider's JSON, as it was; None unless there is an output.
        output: text, or `{"content", "tool_calls"}` when the model called tools; of a model for embeddings what
            `embeddings.vectors` makes.
        message: of a failure, for people.
        first_token_ms: of a streamed answer, until something of it was there.
        latency_ms: of the call itself, without any waiting for our own limits.
        started_at: ISO 8601, UTC.
        attempts, refusals: calls made for this answer, and how many of them the provider had no room for.
    """

    kind: Kind
    status: int | None = None
    request_id: str = ""
    body: Mapping[str, Any] | None = None
    output: Any = None
    message: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    latency_ms: float = 0.0
    started_at: str = ""
    attempts: int = 1
    refusals: int = 0
    first_token_ms: float | None = None

    def to_json(self) -> str:
        """For the journal."""
        return strict_json.dumps(vars(self))  # asdict would copy the whole answer first

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """What `to_json` wrote."""
        fields = strict_json.loads(text)
        return cls(**{**fields, "kind": Kind(fields["kind"])})


Reading = Callable[[Answer, dict[str, Any], Mapping[str, Any]], Answer]
"""What is known of an answer already, its body, and that of the request: the whole answer."""

_STATUS_KINDS: Final[Mapping[int, Kind]] = {
    401: Kind.AUTH_ERROR,
    402: Kind.QUOTA_EXHAUSTED,
    403: Kind.AUTH_ERROR,
    408: Kind.PROVIDER_ERROR,
    409: Kind.PROVIDER_ERROR,
    425: Kind.PROVIDER_ERROR,
    429: Kind.RATE_LIMITED,
    503: Kind.OVERLOADED,
    529: Kind.OVERLOADED,
}
_FINISH_KINDS: Final[Mapping[str, Kind]] = {"length": Kind.TRUNCATED, "content_filter": Kind.CONTENT_FILTER}


def read(reply: Reply, *, secret: str, request: Mapping[str, Any], reading: Reading | None = None) -> Answer:
    """
    What *reply* says.

    Args:
        secret: taken out of the text wherever it stands; a provider may quote a key.
        request: the body that it answers.
        reading: what a body that came with status 200 says; None for that of a chat completion.
    """
    first_s = None
    if streamed.is_streamed(reply):
        made, first_s = streamed.whole(reply)
        text = strict_json.dumps(made) if made is not None else "the stream was cut"
    else:
        text = reply.body.decode("utf-8", errors="replace")
    text = text.replace(secret, "[redacted]") if secret else text
    request_id = reply.headers.get("x-request-id", "")[:128]
    facts = Answer(
        Kind.OK,
        status=reply.status,
        request_id=request_id,
        latency_ms=round(reply.latency_s * 1000, 3),
        first_token_ms=None if first_s is None else round(first_s * 1000, 3),
    )
    try:
        body = strict_json.loads(text, levels=strict_json.MAX_DEPTH - _WRAPPING_LEVELS)
    except strict_json.NotJson as error:
        body = None
        fault = f"the answer is not JSON: {error}"
    else:
        fault = "" if isinstance(body, dict) else "the answer is not a JSON object"
    if reply.status != 200:
        return _refusal(facts, body if isinstance(body, dict) else {})
    if fault:
        return replace(facts, kind=Kind.INVALID_RESPONSE, message=fault)
    return (reading or completion)(facts, body, request)


def _refusal(facts: Answer, body: dict[str, Any]) -> Answer:
    status = facts.status or 0
    told = body.get("error")
    error = told if isinstance(told, dict) else {"message": told}
    kind = _STATUS_KINDS.get(status, Kind.PROVIDER_ERROR if status >= 500 else Kind.BAD_REQUEST)
    if "content_filter" in (error.get("code"), error.get("type")):
        kind = Kind.CONTENT_FILTER
    if is_about_money(error):
        kind = Kind.QUOTA_EXHAUSTED
    words = error.get("message")
    message = f"HTTP status {status}" + (f": {words}" if isinstance(words, str) else "")
    return replace(facts, kind=kind, message=message[:MAX_MESSAGE])


def completion(facts: Answer, body: dict[str, Any], request: Mapping[str, Any]) -> Answer:
    """A chat completion. Where the request asked for JSON, any other output is invalid."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return replace(facts, kind=Kind.INVALID_RESPONSE, message="the answer has no choices[0].message")
    usage = body.get("usage")
    facts = replace(
        facts,
        request_id=facts.request_id or _text(body.get("id"))[:128],
        prompt_tokens=count_in(usage, "prompt_tokens"),
        completion_tokens=count_in(usage, "completion_tokens"),
    )
    if refusal := _text(message.get("refusal")):
        return replace(facts, kind=Kind.REFUSED, message=refusal[:MAX_MESSAGE])
    kind = _FINISH_KINDS.get(_text(choice.get("finish_reason")), Kind.OK)
    output = _output(message)
    if kind is Kind.CONTENT_FILTER:
        return replace(facts, kind=kind, message="the provider's filter took the answer away")
    if output is None:
        return replace(facts, kind=Kind.INVALID_RESPONSE, message="the answer has neither content nor tool calls")
    if _wants_json(request) and kind is Kind.OK and not _is_json(output):
        return replace(facts, kind=Kind.INVALID_RESPONSE, message="the output is not the JSON that was asked for")
    return replace(facts, kind=kind, body=body, output=output)


def _output(message: dict[str, Any]) -> Any:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    if isinstance(calls := message.get("tool_calls"), list) and calls:
        return {"content": content, "tool_calls": calls}
    return content if isinstance(content, str) else None


def _wants_json(request: Mapping[str, Any]) -> bool:
    form = request.get("response_format")
    return str(form.get("type", "") if isinstance(form, dict) else "").startswith("json")


def _is_json(output: Any) -> bool:
    if not isinstance(output, str):
        return True
    try:
        strict_json.loads(output)
    except strict_json.NotJson:
        return False
    return True


def count_in(usage: Any, name: str) -> int | None:
    """
    The count *name* of *usage*: whole and believable, else as good as absent; the answer is paid for, whatever its
    figures are.
    """
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
