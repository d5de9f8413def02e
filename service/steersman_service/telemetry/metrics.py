"""Prometheus metrics of one server, in a registry of its own. No id of a user, an item or a feature is ever a label."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, cast

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    disable_created_metrics,
)

from steersman.v1.control_pb2 import (
    OPERATION_ADD,
    AppliedControl,
    ControlSource,
    Operation,
)
from steersman.v1.recommendation_service_pb2 import DEGRADATION_UNSPECIFIED, Degradation
from steersman_service.bundle.bundle import GRAPHS
from steersman_service.errors import RequestError, reasons
from steersman_service.sessions.reasons import REASONS
from steersman_service.telemetry.port import exposed
from steersman_service.telemetry.process import Processes

CallType = Literal["unary", "server_stream", "bidi_stream"]
Metric = TypeVar("Metric", Counter, Gauge, Histogram)

# Close together from 1 to 100 ms, where answers lie.
SECONDS = (
    0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0
)  # fmt: skip
TENTHS = tuple(tenths / 10 for tenths in range(11))
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
METHOD = ("grpc_type", "grpc_service", "grpc_method")
REDIS_OPERATIONS = ("append", "get", "visit", "keep_state", "set_controls", "delete", "probe")


class CallMetrics:
    """Counts the calls of one method."""

    def __init__(
        self, started: Counter, handled: Counter, seconds: Histogram, labels: tuple[CallType, str, str]
    ) -> None:
        self.started: Callable[[], None] = started.labels(*labels).inc
        self._handled = {code: handled.labels(*labels, _camel_case(code)) for code in grpc.StatusCode}
        # A stream lasts for as long as its client wants: its time says nothing about the server.
        self._seconds = seconds.labels(*labels) if labels[0] == "unary" else None

    def handled(self, code: grpc.StatusCode, seconds: float) -> None:
        self._handled[code].inc()
        if self._seconds is not None:
            self._seconds.observe(seconds)


class Metrics:
    """The names of call metrics are those that gRPC dashboards expect.

    Every series whose labels are known beforehand stands at 0 from the start, so that a rate over it has a value before
    the first event. Children are kept: no call looks one up by its labels.
    """

    def __init__(self, *, collected: bool = True) -> None:
        """Without `collected`, nothing is counted and nothing costs."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._collected = collected
        self._processes = Processes()
        if collected:
            self.registry.register(self._processes)
            PlatformCollector(registry=self.registry)
        self._of_calls()
        self._of_inference()
        self._of_steering()
        self._of_sessions()
        self._of_the_server()

    def calls(self, kind: CallType, service: str, method: str) -> CallMetrics:
        """Counts one method: `service` is "package.Service"."""
        return CallMetrics(self._started, self._handled, self._handling, (kind, service, method))

    def watch_process(self, pid: int) -> None:
        """Another process of this server: `process_` metrics are those of both together."""
        self._processes.watch(pid)

    def refused(self, error: RequestError) -> None:
        self._refused[error.reason].inc()

    def batch(self, waits_seconds: Sequence[float]) -> None:
        """A batch begins: how long each of its requests has waited."""
        self._batch_size.observe(len(waits_seconds))
        for seconds in waits_seconds:
            self._queue_wait.observe(seconds)

    def inference(self, stage: str, seconds: float) -> None:
        self._inference[stage].observe(seconds)

    def state_cache(self, hits: int, misses: int) -> None:
        """A batch was computed: for how many requests the hidden state was there, and for how many it was not."""
        self._state_hits.inc(hits)
        self._state_misses.inc(misses)

    def kv_cache(self, hits: int, misses: int) -> None:
        """A batch was computed: how many of its new histories were appended to, and how many were computed whole."""
        self._kv_hits.inc(hits)
        self._kv_misses.inc(misses)

    def kv_evicted(self) -> None:
        self._kv_evictions.inc()

    def recommended(
        self, applied: Iterable[AppliedControl], degradations: Iterable[int], *, new_session: bool = False
    ) -> None:
        """A request was answered, under these controls and with these degradations; for a session that the store had not, or not."""
        if new_session:
            self._new_sessions.inc()
        kinds = Counts((it.control.WhichOneof("target"), it.control.operation, it.source) for it in applied)
        for kind, count in kinds.items():
            self._controls[kind].inc(count)
        self._recommendations[bool(kinds)].inc()
        for degradation in degradations:
            self._degraded[degradation].inc()

    def list_change(self, ratio: float) -> None:
        self._list_change.observe(ratio)

    def redis(self, operation: str, seconds: float) -> None:
        self._redis[operation].observe(seconds)

    def redis_failed(self, operation: str, reason: str) -> None:
        """`reason` is one of REASONS."""
        self._redis_errors[operation].inc()
        self._redis_reasons[reason].inc()

    def redis_up(self, up: bool) -> None:
        self._redis_up.set(up)

    def session_read(self, remembered: bool) -> None:
        """A session was read for a recommendation: whether what was remembered of it was what was there."""
        (self._session_hits if remembered else self._session_misses).inc()

    def watch_session_cache(self, held_bytes: Callable[[], float]) -> None:
        self._session_bytes.set_function(held_bytes)

    def session_created(self) -> None:
        self._created.inc()

    def session_deleted(self) -> None:
        self._deleted.inc()

    def session_events(self, *, appended: int, duplicates: int) -> None:
        self._appended.inc(appended)
        self._duplicates.inc(duplicates)

    def watch_queue(self, depth: Callable[[], int], capacity: int) -> None:
        self._queue_depth.set_function(depth)
        self._queue_capacity.set(capacity)

    def watch_state_cache(self, held_bytes: Callable[[], float]) -> None:
        self._state_bytes.set_function(held_bytes)

    def watch_kv_cache(self, held_bytes: Callable[[], float]) -> None:
        self._kv_bytes.set_function(held_bytes)

    def bundle(self, *, version: str, bundle_format: str, data: str, backend: str, device: str) -> None:
        self._info.labels(version, bundle_format, data, backend, device).set(1)

    def ready(self, ready: bool) -> None:
        """Whether this process takes calls."""
        self._ready.set(ready)
        self._workers.set(ready)

    def all_ready(self, ready: bool) -> None:
        """Whether all workers of this supervisor take calls."""
        self._ready.set(ready)

    def worker_died(self) -> None:
        self._deaths.inc()

    @contextmanager
    def exposed(self, host: str, port: int) -> Iterator[int]:
        """Serves the metrics over HTTP; gives the port, 0 if nothing is collected. Raises StartupError if it is taken."""
        if not self._collected:
            yield 0
            return
        with exposed(self.registry, host, port) as taken:
            yield taken

    def _of_calls(self) -> None:
        self._started = self._made(Counter, "grpc_server_started_total", "Calls begun.", METHOD)
        self._handled = self._made(
            Counter, "grpc_server_handled_total", "Calls ended, by status.", (*METHOD, "grpc_code")
        )
        self._handling = self._made(
            Histogram, "grpc_server_handling_seconds", "Time of a call that is no stream.", METHOD, buckets=SECONDS
        )
        refused = self._made(
            Counter, "steersman_refused_total", "Calls answered with an error, by the reason given.", ("reason",)
        )
        self._refused = {reason: refused.labels(reason.lower()) for reason in reasons()}

    def _of_inference(self) -> None:
        self._queue_depth = self._made(Gauge, "steersman_queue_depth", "Requests that wait for a batch.")
        self._queue_capacity = self._made(
            Gauge, "steersman_queue_capacity", "Requests that may wait; more are refused (the setting queue_size)."
        )
        self._queue_wait = self._made(
            Histogram, "steersman_queue_wait_seconds", "Wait of a request until its batch began.", buckets=SECONDS
        )
        self._batch_size = self._made(
            Histogram, "steersman_batch_size", "Requests computed together.", buckets=BATCH_SIZES
        )
        inference = self._made(
            Histogram,
            "steersman_inference_seconds",
            "Time of a batch in one graph.",
            ("stage",),
            buckets=SECONDS,
        )
        self._inference = {stage: inference.labels(stage) for stage in (*GRAPHS, "append")}
        self._state_hits = self._made(
            Counter,
            "steersman_state_cache_hits_total",
            "Hidden states not computed: kept from an earlier request, or that of another request of the batch.",
        )
        self._state_misses = self._made(Counter, "steersman_state_cache_misses_total", "Hidden states computed.")
        self._state_bytes = self._made(
            Gauge,
            "steersman_state_cache_bytes",
            "Memory taken by hidden states that are kept (the setting state_cache_mb bounds it).",
        )
        self._kv_hits = self._made(
            Counter, "steersman_kv_cache_hits_total", "Histories of which only the new events were computed."
        )
        self._kv_misses = self._made(
            Counter, "steersman_kv_cache_misses_total", "Histories computed from their first event on."
        )
        self._kv_evictions = self._made(
            Counter, "steersman_kv_cache_evictions_total", "Histories whose keys and values made room for others."
        )
        self._kv_bytes = self._made(
            Gauge,
            "steersman_kv_cache_bytes",
            "Memory taken by keys and values that are kept (the setting kv_cache_mb bounds it).",
        )

    def _of_steering(self) -> None:
        recommendations = self._made(
            Counter, "steersman_recommendations_total", "Recommendations given, with any control or none.", ("steered",)
        )
        self._recommendations = {steered: recommendations.labels(str(steered).lower()) for steered in (False, True)}
        controls = self._made(
            Counter,
            "steersman_controls_applied_total",
            "Controls of recommendations given, by what they steer, how, and who brought them.",
            ("target", "operation", "source"),
        )
        self._controls = {
            (target, operation, source): controls.labels(
                target, _word(Operation.Name(operation)), _word(ControlSource.Name(source), "CONTROL_SOURCE_")
            )
            for target in ("feature", "concept", "attribute")
            for operation in Operation.values()
            for source in ControlSource.values()
            if operation and source and (target == "feature" or operation == OPERATION_ADD)
        }
        self._list_change = self._made(
            Histogram,
            "steersman_list_change_ratio",
            "Share of a steered list that the list without controls lacks (the setting list_change_sample says how often).",
            buckets=TENTHS,
        )
        degraded = self._made(
            Counter, "steersman_degraded_total", "Recommendations that say they are degraded, by reason.", ("reason",)
        )
        self._degraded = {
            value: degraded.labels(_word(Degradation.Name(value)))
            for value in Degradation.values()
            if value != DEGRADATION_UNSPECIFIED
        }

    def _of_sessions(self) -> None:
        redis = self._made(
            Histogram,
            "steersman_redis_seconds",
            "Time of an operation on the session store, failed ones included.",
            ("operation",),
            buckets=SECONDS,
        )
        errors = self._made(
            Counter,
            "steersman_redis_errors_total",
            "Operations that the session store did not answer in time, or with an error.",
            ("operation",),
        )
        self._redis = {operation: redis.labels(operation) for operation in REDIS_OPERATIONS}
        self._redis_errors = {operation: errors.labels(operation) for operation in REDIS_OPERATIONS}
        reasons = self._made(
            Counter,
            "steersman_redis_failures_total",
            "Operations that the session store did not do, by the reason; a probe that fails is one.",
            ("reason",),
        )
        self._redis_reasons = {reason: reasons.labels(reason.lower()) for reason in REASONS}
        self._redis_up = self._made(
            Gauge,
            "steersman_redis_up",
            "1 if sessions could be read and changed when that was last tried (once a second), 0 if not; NaN before the first time.",
        )
        # Not 0: a bundle that takes long to load must not look like a store that is down.
        self._redis_up.set(float("nan"))
        self._session_hits = self._made(
            Counter,
            "steersman_session_cache_hits_total",
            "Sessions of which the store had nothing to tell that was not known.",
        )
        self._session_misses = self._made(
            Counter, "steersman_session_cache_misses_total", "Sessions that were read whole from the store."
        )
        self._session_bytes = self._made(
            Gauge,
            "steersman_session_cache_bytes",
            "Memory taken by sessions that are remembered (the setting session_cache_mb bounds it).",
        )
        self._new_sessions = self._made(
            Counter,
            "steersman_recommendations_new_session_total",
            "Recommendations for a session that the store did not hold before: new users, or sessions lost or not replicated yet.",
        )
        self._created = self._made(Counter, "steersman_sessions_created_total", "Sessions created.")
        self._deleted = self._made(Counter, "steersman_sessions_deleted_total", "Sessions deleted by callers.")
        events = self._made(
            Counter,
            "steersman_session_events_total",
            "Events acknowledged: new ones, and ones known already.",
            ("result",),
        )
        self._appended, self._duplicates = events.labels("appended"), events.labels("duplicate")

    def _of_the_server(self) -> None:
        self._info = self._made(
            Gauge,
            "steersman_bundle_info",
            "1; the labels say what is served.",
            ("version", "format", "data", "backend", "device"),
        )
        self._ready = self._made(
            Gauge,
            "steersman_ready",
            "1 if the server takes calls, with all of its workers; 0 while one loads its bundle, and while it drains.",
        )
        self._workers = self._made(
            Gauge, "steersman_workers", "Processes that take calls (the setting workers says how many shall)."
        )
        self._deaths = self._made(
            Counter, "steersman_worker_deaths_total", "Workers that ended without being told to, and are started again."
        )

    def _made(self, kind: type[Metric], name: str, text: str, labels: Sequence[str] = (), **options: Any) -> Metric:
        if not self._collected:
            return cast(Metric, _Nothing())
        return kind(name, text, labels, registry=self.registry, **options)


class _Nothing:
    """Stands where a metric would, if none are collected."""

    def labels(self, *values: str) -> "_Nothing":
        return self

    def inc(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...
    def set_function(self, function: Callable[[], float]) -> None: ...
    def observe(self, amount: float) -> None: ...


def _camel_case(code: grpc.StatusCode) -> str:
    """As gRPC for Go writes it, which dashboards expect: Canceled, with one l."""
    if code is grpc.StatusCode.OK:
        return "OK"
    return "Canceled" if code is grpc.StatusCode.CANCELLED else code.name.title().replace("_", "")


def _word(name: str, prefix: str | None = None) -> str:
    """ "OPERATION_ADD" -> "add": the name of a value without that of its enum."""
    return (name.removeprefix(prefix) if prefix else name.partition("_")[2]).lower()
