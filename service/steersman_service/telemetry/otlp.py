"""Traces by OpenTelemetry, sent by OTLP over gRPC. The only importer of opentelemetry."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version

from opentelemetry.context import Context as Parent
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from steersman_service.telemetry.traces import HEADER, Context, Work

# Of an export with its attempts, and of the last one before the process ends: an absent receiver must not hold up a drain.
EXPORT_SECONDS, LAST_EXPORT_SECONDS = 5, 1.0
TRACE_ID_BYTES = 16
W3C = TraceContextTextMapPropagator()


def exporter(endpoint: str) -> SpanExporter:
    """Headers, certificates and compression are read from OTEL_EXPORTER_OTLP_*, as OpenTelemetry specifies them."""
    # A receiver that is away is an error an export, not a warning an attempt more.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_SECONDS)


class OpenTelemetry:
    """See Traces."""

    on = True

    def __init__(self, to: SpanExporter, sample: float, role: str) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before.
        own = {"service.name": "steersman", "service.version": version("steersman"), "steersman.process": role}
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        sampler = ParentBasedTraceIdRatio(sample)
        self._exporter = to
        self._provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(to))
        self._tracer = self._provider.get_tracer("steersman")
        # Spans of other threads and processes are told by the monotonic clock.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    @contextmanager
    def serving(self, protocol: str, method: str, traceparent: str) -> Iterator[None]:
        parent = W3C.extract({HEADER: traceparent}, Parent())
        if protocol == "http":
            name, attributes = f"POST /{method}", {"http.request.method": "POST", "http.route": f"/{method}"}
        else:
            name, attributes = method, {"rpc.system.name": protocol, "rpc.method": method}
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        # The text of an exception may have words of a caller.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield

    def served(self, code: str | int, error: str) -> None:
        span = get_current_span()
        span.set_attribute(f"{'rpc' if isinstance(code, str) else 'http'}.response.status_code", code)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)

    def asking(self, system: str, operation: str) -> AbstractContextManager[None]:
        return self._asking(system, operation) if get_current_span().is_recording() else nullcontext()

    @contextmanager
    def _asking(self, system: str, operation: str) -> Iterator[None]:
        attributes = {"db.system.name": system, "db.operation.name": operation} if system == "redis" else {}
        span = self._tracer.start_span(f"{system} {operation}", kind=SpanKind.CLIENT, attributes=attributes)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def context(self) -> Context:
        span = get_current_span()
        if not span.is_recording():
            return b""
        ids = span.get_span_context()
        return ids.trace_id.to_bytes(TRACE_ID_BYTES) + ids.span_id.to_bytes(8)

    def worked(self, work: Work) -> None:
        trace_id, span_id = (
            int.from_bytes(part) for part in (work.context[:TRACE_ID_BYTES], work.context[TRACE_ID_BYTES:])
        )
        ids = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        parent = set_span_in_context(NonRecordingSpan(ids))
        spans = [("queue", work.queued, work.began)]
        if work.batch_size:
            spans.append(("batch", work.began, work.ended))
        for name, begin, end in spans:
            span = self._tracer.start_span(name, parent, start_time=self._ns(begin))
            if work.batch_size:
                span.set_attribute("steersman.batch.size", work.batch_size)
            if work.error and (name, begin, end) == spans[-1]:
                span.set_attribute("error.type", work.error)
                span.set_status(StatusCode.ERROR)
            span.end(self._ns(end))

    def header(self) -> tuple[tuple[str, str], ...]:
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return ((HEADER, carrier[HEADER]),) if HEADER in carrier else ()

    def trace_id(self) -> str:
        ids = get_current_span().get_span_context()
        return f"{ids.trace_id:032x}" if ids.is_valid else ""

    def flush(self) -> None:
        """Sends what is recorded, and waits for it."""
        self._provider.force_flush()

    def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(LAST_EXPORT_SECONDS)
        if closing.is_alive():
            self._exporter.shutdown()
            closing.join(LAST_EXPORT_SECONDS)

    def _ns(self, seconds: float) -> int:
        return self._epoch_ns + round(1e9 * seconds)
