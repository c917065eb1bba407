"""Sends spans to an OTLP/HTTP receiver, in batches, from a thread of its own. The only door to opentelemetry."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from overmind_agent.telemetry.spans import Span

PATH: Final = "/v1/traces"
EXPORT_S: Final = 5.0
CLOSE_S: Final = 5.0
# More spans than that wait for a receiver that is away; then the new ones are lost.
MOST_WAITING: Final = 2048
BATCH_EVERY_MS: Final = 2000
_SCOPE: Final = InstrumentationScope("overmind-agent")


class OtlpSpans:
    """
    Takes spans and does not wait. A receiver that is away loses spans, and nothing else.

    Args:
        endpoint: without the path.
        about: attributes of this process, such as `service.name`.
        redact: masks secrets in what is sent.
        on_batch: told of how many spans went out (True) or were lost (False).
    """

    def __init__(
        self,
        endpoint: str,
        about: Mapping[str, str],
        *,
        redact: Callable[[str], str],
        on_batch: Callable[[int, bool], object],
    ) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it is said once, by `on_batch`
        self._redact = redact
        # Not what the environment says of the process: that is not ours to tell.
        self._resource = Resource({key: redact(value) for key, value in about.items()})
        exporter = OTLPSpanExporter(endpoint=endpoint + PATH, timeout=EXPORT_S)
        self._processor: Any = BatchSpanProcessor(
            _Counted(exporter, on_batch),
            max_queue_size=MOST_WAITING,
            schedule_delay_millis=BATCH_EVERY_MS,
            export_timeout_millis=EXPORT_S * 1000,
        )

    def keep(self, span: Span) -> None:
        """Send *span* with the next batch."""
        self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what waits, within a few seconds; what a receiver that hangs has not taken by then is lost."""
        closing = threading.Thread(target=self._processor.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _readable(self, span: Span) -> Any:
        def context(span_id: str) -> Any:
            flags = TraceFlags(TraceFlags.SAMPLED if span.context.is_sampled else TraceFlags.DEFAULT)
            return SpanContext(int(span.context.trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)

        shown = {key: self._redact(v) if isinstance(v, str) else v for key, v in span.attributes.items()}
        return ReadableSpan(
            name=span.name,
            context=context(span.context.span_id),
            parent=context(span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=shown,
            kind=SpanKind.CLIENT if "gen_ai.request.model" in shown else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, self._redact(span.error)) if span.error else Status(StatusCode.OK),
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=_SCOPE,
        )


class _Counted:
    """An exporter, as the batches want one, that says what became of each batch."""

    def __init__(self, exporter: Any, on_batch: Callable[[int, bool], object]) -> None:
        self._exporter = exporter
        self._on_batch = on_batch

    def export(self, spans: Sequence[Any]) -> Any:
        """Send *spans*."""
        result = self._exporter.export(spans)
        self._on_batch(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """No more will come."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return bool(self._exporter.force_flush(timeout_millis))
