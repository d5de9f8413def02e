"""Traces: what a call waited for, across processes. Nothing happens, and OpenTelemetry is not imported, until they are turned on.

A span has names of ours (method, operation, status, reason) and numbers. Nothing that a caller sent gets into one, but for the trace's own
id and whether it is sampled (W3C's header `traceparent`).
"""

from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")
HEADER = "traceparent"
"""Of HTTP, and key of gRPC's metadata."""
Context = bytes
"""What a span in another thread or process needs to join: of a span that is recorded, else empty."""


class Work(NamedTuple):
    """What an engine did for one request. Times are those of time.monotonic(), in seconds."""

    context: Context
    """Of the request's call."""
    queued: float
    began: float
    """When its batch began; when it was dropped, if it had none."""
    ended: float
    batch_size: int
    """0: it was dropped before it was computed."""
    error: str
    """Name of what went wrong; empty: nothing."""


class Traces(Protocol):
    """The seam. Spans that are begun here are current until they end."""

    on: bool

    def serving(self, protocol: str, method: str, traceparent: str) -> AbstractContextManager[None]:
        """A call of "package.Service/Method" over "grpc" or "http"; joins the trace of `traceparent` if that is one."""

    def served(self, code: str | int, error: str) -> None:
        """How the call ends: the status of gRPC (a name) or HTTP (a number), and what is wrong if that is an error."""

    def asking(self, system: str, operation: str) -> AbstractContextManager[None]:
        """Waiting for another process: "redis" or "engine". Nothing, unless within a call that is recorded. Exceptions mark it."""

    def context(self) -> Context:
        """Of the current span."""

    def worked(self, work: Work) -> None:
        """May be called from any thread."""

    def header(self) -> tuple[tuple[str, str], ...]:
        """The current span's HEADER with its value, for the next server of ours."""

    def trace_id(self) -> str:
        """Of the current span, in 32 hexadecimal digits; empty: there is none."""

    def close(self) -> None:
        """Sends what is recorded, within a second or so. Nothing is recorded any more."""


class Off:
    """Does nothing."""

    on = False

    def serving(self, protocol: str, method: str, traceparent: str) -> AbstractContextManager[None]:
        return _NOTHING

    def served(self, code: str | int, error: str) -> None: ...

    def asking(self, system: str, operation: str) -> AbstractContextManager[None]:
        return _NOTHING

    def context(self) -> Context:
        return b""

    def worked(self, work: Work) -> None: ...

    def header(self) -> tuple[tuple[str, str], ...]:
        return ()

    def trace_id(self) -> str:
        return ""

    def close(self) -> None: ...


_NOTHING: AbstractContextManager[None] = nullcontext()
_OFF = Off()
_traces: Traces = _OFF


def traces() -> Traces:
    """Of this process."""
    return _traces


def use(chosen: Traces = _OFF) -> None:
    """From now on, in this process. Servers ask once, when they are made."""
    global _traces
    _traces = chosen


def checked_endpoint(endpoint: str) -> str:
    """`endpoint`. Raises ValueError, which does not repeat it, if traces cannot be sent there from here."""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        bare = not (parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:  # of a port, or an address of IPv6
        usable = bare = False
    if not (usable and bare):
        raise ValueError(
            "has to be http://HOST:PORT or https://HOST:PORT, the address of an OTLP receiver for gRPC, and no more: credentials go into"
            " the environment variable OTEL_EXPORTER_OTLP_HEADERS"
        )
    if not installed():
        raise ValueError("needs the extra traces: pip install 'steersman[traces]'")
    return endpoint


def configure_traces(endpoint: str | None, sample: float, role: str) -> None:
    """Sends this process's spans to the OTLP receiver `endpoint`, if there is one; `role` names the kind of process.

    `sample` is the share of traces that are recorded, among those that begin here.
    """
    if endpoint is None:
        return
    from steersman_service.telemetry.otlp import OpenTelemetry, exporter

    use(OpenTelemetry(exporter(endpoint), sample, role))


def installed() -> bool:
    """Whether the extra traces is."""
    try:
        return all(find_spec(package) for package in PACKAGES)
    except ModuleNotFoundError:
        return False


def with_trace(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog's processor: a line that is logged within a call has the id of its trace."""
    if trace_id := _traces.trace_id():
        event["trace_id"] = trace_id
    return event
