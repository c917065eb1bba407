"""
A zoo of chat models for tests: a real HTTP server on loopback whose models read the prompt and answer by rule, so
that a better prompt gets better answers, and which fails on demand.

    with Zoo() as zoo:
        zoo.fail("the text of a row", Status(429, {"Retry-After": "0"}), times=2)
        ... ask zoo.url ...
        assert 3 == zoo.calls["the text of a row"]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from zoo_embeddings import embeddings

GLAD = {"love", "great", "best", "lovely", "excellent", "happy", "perfect", "good", "joy"}
Body = dict[str, Any]


def sentiment(messages: list[Body]) -> str:
    """
    Knows glad words. Says `positive` or `negative` when asked for one word, a sentence when not, and when the
    prompt does not name the two labels it only chats.
    """
    prompt = " ".join(str(message["content"]) for message in messages)
    review = str(messages[-1]["content"])
    if "positive or negative" not in prompt:
        return "I see. Tell me more."
    label = "positive" if GLAD & set(review.lower().replace(".", "").split()) else "negative"
    return label if "one word" in prompt else f"It seems to me that it is {label}."


def echo(messages: list[Body]) -> str:
    """The last message, as it came."""
    return str(messages[-1]["content"])


Model = Callable[[list[Body]], str]
MODELS: Mapping[str, Model] = {"sentiment": sentiment, "echo": echo}


@dataclass(frozen=True)
class Status:
    """Answer with this HTTP status."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": {"message": "the zoo is closed", "code": "closed"}}'


@dataclass(frozen=True)
class Raw:
    """Send these bytes as the body of a 200; with *length* another length is declared, and the stream is cut."""

    body: bytes
    length: int | None = None


@dataclass(frozen=True)
class Completion:
    """Answer with this choice."""

    message: Body
    finish_reason: str = "stop"


class Hang:
    """Read the request and never answer; with *after_head* the head of an answer comes, and nothing behind it."""

    def __init__(self, *, after_head: bool = False) -> None:
        self.after_head = after_head


class Drip:
    """A byte now and then, for ever: in the body, or already in the headers."""

    def __init__(self, *, headers: bool = False) -> None:
        self.headers = headers


class Reset:
    """Close the connection with a reset before any answer."""


class AtOnce:
    """Refuses what comes while *most* requests are at work."""

    def __init__(self, most: int) -> None:
        self.most = most

    def takes(self, inside: int) -> bool:
        """Whether one more is taken; *inside* counts it."""
        return inside <= self.most


class PerSecond:
    """Refuses what comes beyond *rate* requests a second and *burst* at once."""

    def __init__(self, rate: float, *, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at_s = burst, time.monotonic()

    def takes(self, _inside: int) -> bool:
        """Whether one more is taken."""
        now_s = time.monotonic()
        self._left = min(self.burst, self._left + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        taken = self._left >= 1
        self._left -= taken
        return taken


Fault = Status | Raw | Completion | Hang | Drip | Reset


class Zoo:
    """
    Args:
        models: more of them, by name.
        port: 0 for a free one.

    Attributes:
        calls: how often each last message's text, or each text for a vector, was asked about.
        bodies: every request's body, in the order of arrival.
        came_at_s: when each of them came, on the monotonic clock.
        authorizations, traceparents: the headers of that name that came.
        refused: requests that a limit did not take.
        pause_s, tells_usage: of a streamed answer: after its first word, and at its end.
        peak: the most requests that were in the zoo at once.
    """

    def __init__(self, models: Mapping[str, Model] | None = None, *, port: int = 0) -> None:
        self.models = {**MODELS, **(models or {})}
        self.calls: Counter[str] = Counter()
        self.bodies: list[Body] = []
        self.came_at_s: list[float] = []
        self.peak = 0
        self.authorizations: set[str] = set()
        self.traceparents: set[str] = set()
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._limit: AtOnce | PerSecond | None = None
        self.latency_s = 0.0
        self.pause_s = 0.0
        self.tells_usage = True
        self.refused = 0
        self._answers_left: int | None = None
        self._gate = 0
        self._faults: dict[str, deque[tuple[Fault, int | None]]] = defaultdict(deque)
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.zoo = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Zoo:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.closing.set()
        self.open_gate()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The base URL of an OpenAI-compatible endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def total(self) -> int:
        """Requests so far."""
        return len(self.bodies)

    def fail(self, text: str, fault: Fault, *, times: int | None = None) -> None:
        """
        Meet requests whose last message, or one of whose texts for a vector, is *text* with *fault*, so many times
        or always; `""` is any text.
        """
        self._faults[text].append((fault, times))

    def limit(self, limit: AtOnce | PerSecond, *, latency_s: float) -> None:
        """Answer 429, and nothing else, to what *limit* does not take; each answer takes *latency_s* seconds."""
        self._limit, self.latency_s = limit, latency_s

    def close_gate(self, *, after: int) -> None:
        """
        Give *after* more answers, and hold back all others until the gate is opened. Who is still held back from
        an earlier time is sent away: its client is dead.
        """
        with self._changed:
            self._answers_left = after
            self._gate += 1
            self._changed.notify_all()

    def open_gate(self) -> None:
        """Answer everybody."""
        with self._changed:
            self._answers_left = None
            self._changed.notify_all()

    def wait_for_calls(self, number: int, *, timeout_s: float = 20) -> None:
        """Return once *number* requests have come in all."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.bodies) >= number, timeout_s)
        assert arrived, f"{len(self.bodies)} of {number} calls came within {timeout_s} s"

    def enter(self, body: Body) -> Fault | None:
        """Count a request, let it wait at the gate; returns how it is to fail."""
        texts = body["input"] if "input" in body else [str(body["messages"][-1]["content"])]
        with self._changed:
            self.calls.update(texts)
            self.bodies.append(body)
            self.came_at_s.append(time.monotonic())
            self._inside += 1
            self.peak = max(self.peak, self._inside)
            self._changed.notify_all()
            if self._limit is not None and not self._limit.takes(self._inside):
                self.refused += 1
                return Status(429)
            gate = self._gate
            self._changed.wait_for(lambda: gate != self._gate or self._answers_left != 0)
            if gate != self._gate:
                return Reset()
            if self._answers_left is not None:
                self._answers_left -= 1
            return self._next_fault(texts)

    def leave(self) -> None:
        """The request is over."""
        with self._changed:
            self._inside -= 1

    def _next_fault(self, texts: list[str]) -> Fault | None:
        planned = next((found for text in (*texts, "") if (found := self._faults.get(text))), None)
        if not planned:
            return None
        fault, times = planned.popleft()
        if times is None or times > 1:
            planned.appendleft((fault, times and times - 1))
        return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    zoo: Zoo

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that were killed leave broken pipes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """Which models there are: what a doctor asks."""
        self._send(200, json.dumps({"data": [{"id": name} for name in self.server.zoo.models]}).encode(), {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        zoo = self.server.zoo
        zoo.authorizations.add(self.headers.get("Authorization", ""))
        zoo.traceparents.add(self.headers.get("traceparent", ""))
        fault = zoo.enter(body)
        try:
            if fault is None and zoo.latency_s:
                zoo.closing.wait(zoo.latency_s)
            self._answer(body, fault)
        finally:
            zoo.leave()

    def _answer(self, body: Body, fault: Fault | None) -> None:
        zoo = self.server.zoo
        match fault:
            case Status(code, headers, content):
                self._send(code, content, headers)
            case Raw(content, length):
                self._send(200, content, {}, length=length)
            case Completion(message, finish_reason):
                self._send(200, _completion(body, message, finish_reason), {})
            case Hang(after_head=after_head):
                if after_head:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                self.server.zoo.closing.wait()
                self.close_connection = True
            case Drip(headers=in_headers):
                self._drip(in_headers)
            case Reset():
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case None if "input" in body:
                self._send(200, embeddings(body), {})
            case None:
                text = zoo.models.get(body["model"], echo)(body["messages"])
                whole = _completion(body, {"role": "assistant", "content": text}, "stop")
                if body.get("stream"):
                    self._stream(json.loads(whole))
                else:
                    self._send(200, whole, {})

    def _send(self, code: int, content: bytes, headers: Mapping[str, str], *, length: int | None = None) -> None:
        """In one write: two small ones would wait for the client's delayed acknowledgement."""
        lines = {
            "Content-Type": "application/json",
            "Content-Length": str(len(content) if length is None else length),
            **headers,
        }
        head = f"HTTP/1.1 {code} x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode() + content)
        self.close_connection = length is not None

    def _stream(self, whole: Body) -> None:
        """The same answer in events, word by word; after the first one a pause."""
        about = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        words = whole["choices"][0]["message"]["content"].split(" ")
        deltas: list[Body] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word if place == 0 else f" {word}"} for place, word in enumerate(words)]
        events = [{**about, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({**about, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if whole.get("usage") and self.server.zoo.tells_usage:
            events.append({**about, "choices": [], "usage": whole["usage"]})
        lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
        head = b"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        with contextlib.suppress(OSError):
            self.wfile.write(head + b"".join(map(_chunk, lines[:2])))
            self.server.zoo.closing.wait(self.server.zoo.pause_s)
            self.wfile.write(b"".join(map(_chunk, [*lines[2:], b""])))

    def _drip(self, in_headers: bool) -> None:
        start = b"HTTP/1.1 200 OK\r\n" + (b"" if in_headers else b"Content-Length: 100000\r\n\r\n")
        with contextlib.suppress(OSError):
            self.wfile.write(start)
            while not self.server.zoo.closing.wait(0.05):
                self.wfile.write(b"x")
        self.close_connection = True


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def _completion(body: Body, message: Body, finish_reason: str) -> bytes:
    """A chat completion; its id is made of the request: the same question has the same answer, byte by byte."""
    asked = sum(len(str(part.get("content")).split()) for part in body["messages"])
    said = len(str(message.get("content")).split())
    answer = {
        "id": "chatcmpl-" + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16],
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }
    return json.dumps(answer).encode()
