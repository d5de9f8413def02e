"""Prometheus metrics, a class for each subsystem. No id of a user, an item or a feature is ever a label.

A process makes the classes that it needs in one registry, or `Metrics`, which is all of them. Every series whose labels are known
beforehand stands at 0 from the start, so that a rate over it has a value before the first event.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, cast

from google.rpc.code_pb2 import Code
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from steersman.v1.control_pb2 import OPERATION_ADD, ControlSource, Operation
from steersman.v1.recommendation_service_pb2 import DEGRADATION_UNSPECIFIED, Degradation
from steersman.v1.scenario_service_pb2 import REPLAY_STATUS_UNSPECIFIED, ReplayStatus
from steersman_service.certificates import RESULTS
from steersman_service.errors import RequestError, reasons
from steersman_service.telemetry.port import exposed

CallType = Literal["unary", "server_stream", "bidi_stream"]
Kind = TypeVar("Kind", Counter, Gauge, Histogram)

# Close together from 1 to 100 ms, where answers lie.
SECONDS = (
    0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0
)  # fmt: skip
TENTHS = tuple(tenths / 10 for tenths in range(11))
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
METHOD = ("grpc_type", "grpc_service", "grpc_method")
# Name and help text of every metric.
HELP = {
    "grpc_server_started_total": "Calls begun.",
    "grpc_server_handled_total": "Calls ended, by status.",
    "grpc_server_handling_seconds": "Time of a call that is no stream.",
    "steersman_refused_total": "Calls answered with an error, by the reason given.",
    "steersman_unseen_calls_total": (
        "Calls that ended before a front end looked at them: too many waited (the setting max_waiting_calls), their deadline passed,"
        " or their caller gave up. Counted some seconds late."
    ),
    "steersman_queue_depth": "Requests that wait for a batch.",
    "steersman_queue_capacity": "Requests that may wait; more are refused (the setting queue_size).",
    "steersman_queue_wait_seconds": "Wait of a request until its batch began.",
    "steersman_batch_size": "Requests computed together.",
    "steersman_inference_seconds": "Time of a batch in one graph.",
    "steersman_state_cache_hits_total": (
        "Hidden states not computed: kept from an earlier request, or that of another request of the batch."
    ),
    "steersman_state_cache_misses_total": "Hidden states computed.",
    "steersman_state_cache_bytes": "Memory taken by hidden states that are kept (the setting state_cache_mb bounds it).",
    "steersman_kv_cache_hits_total": "Histories of which only the new events were computed.",
    "steersman_kv_cache_misses_total": "Histories computed from their first event on.",
    "steersman_kv_cache_evictions_total": "Histories whose keys and values made room for others.",
    "steersman_kv_cache_bytes": "Memory taken by keys and values that are kept (the setting kv_cache_mb bounds it).",
    "steersman_recommendations_total": "Recommendations given, with any control or none.",
    "steersman_controls_applied_total": "Controls of recommendations given, by what they steer, how, and who brought them.",
    "steersman_list_change_ratio": (
        "Share of a steered list that the list without controls lacks (the setting list_change_sample says how often)."
    ),
    "steersman_degraded_total": "Recommendations that say they are degraded, by reason.",
    "steersman_recommendations_new_session_total": (
        "Recommendations for a session that the store did not hold before: new users, or sessions lost or not replicated yet."
    ),
    "steersman_redis_seconds": "Time of an operation on the session store, failed ones included.",
    "steersman_redis_errors_total": "Operations that the session store did not answer in time, or with an error.",
    "steersman_redis_failures_total": "Operations that the session store did not do, by the reason; a probe that fails is one.",
    "steersman_redis_breakers_open": (
        "Servers of the session store that failed for a while: calls to them are refused at once, one now and then excepted."
    ),
    "steersman_redis_up": (
        "1 if sessions could be read and changed when that was last tried (once a second), 0 if not; NaN before the first time."
    ),
    "steersman_session_cache_hits_total": "Sessions of which the store had nothing to tell that was not known.",
    "steersman_session_cache_misses_total": "Sessions that were read whole from the store.",
    "steersman_session_cache_bytes": "Memory taken by sessions that are remembered (the setting session_cache_mb bounds it).",
    "steersman_sessions_created_total": "Sessions created.",
    "steersman_sessions_deleted_total": "Sessions deleted by callers.",
    "steersman_session_events_total": "Events acknowledged: new ones, and ones known already.",
    "steersman_session_feedback_total": "New events that are no consumption: disliked, hidden or shown items.",
    "steersman_scenario_cache_hits_total": "Requests whose scenario was in memory, at most a second old or the store away.",
    "steersman_scenario_cache_misses_total": "Requests for which the scenario was read from the session store.",
    "steersman_scenario_replays": (
        "Scenarios, by what replaying them with the bundle that is served shows beside the one under which they were put."
    ),
    "steersman_http_requests_total": (
        "Requests to the HTTP gateway, by what they were and how they were answered; grpc_server_* count the calls that they became."
    ),
    "steersman_certificate_expiry_timestamp_seconds": (
        "Unix time at which the server's certificate, or one between it and its authority, expires; +Inf without TLS."
    ),
    "steersman_certificate_reads_total": (
        "Changed files of the certificate, by whether they were taken or refused; the old ones stay, and those refused are read again."
    ),
    "steersman_bundle_info": "1; the labels say what is served, and on which channel.",
    "steersman_channel_seconds": "Time of a call for items, by the channel that answered it, and whether it was answered or failed.",
    "steersman_bundle_swaps_total": "Bundles that were to be served in place of others, or as canary, by what came of it.",
    "steersman_bundle_refused": "1 while the bundle that the link or source names was refused, and another one is served.",
    "steersman_ready": "1 if every process takes calls; 0 while one loads, and while the server drains.",
    "steersman_workers": "Front ends that take calls (the setting workers says how many there should be).",
    "steersman_event_loop_tasks": "Tasks of event loops: calls in flight, and a few that every process keeps.",
    "steersman_worker_deaths_total": "Front ends, engine hosts and gateways that ended without being told to, and are started again.",
}
HTTP_KINDS = ("connect_json", "connect_proto", "grpc_web", "other")
HTTP_OUTCOMES = ("2xx", "4xx", "5xx")
STAGES = ("lower", "concept", "edit", "upper", "search", "append", "account")


class Registry(CollectorRegistry):
    """Makes and collects the metrics of a process."""

    def __init__(self, *, collected: bool = True) -> None:
        """Without `collected`, nothing is counted and nothing costs."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        super().__init__()
        self.collected = collected
        if collected:
            ProcessCollector(registry=self)
            PlatformCollector(registry=self)

    def counter(self, name: str, labels: Sequence[str] = ()) -> Counter:
        return self._made(Counter, name, labels)

    def gauge(self, name: str, labels: Sequence[str] = ()) -> Gauge:
        return self._made(Gauge, name, labels)

    def histogram(self, name: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS) -> Histogram:
        return self._made(Histogram, name, labels, buckets=buckets)

    def _made(self, kind: type[Kind], name: str, labels: Sequence[str], **options: Any) -> Kind:
        return kind(name, HELP[name], labels, registry=self, **options) if self.collected else cast(Kind, _Nothing())


class _Nothing:
    """Stands for a metric that is not collected."""

    def labels(self, *values: str) -> "_Nothing":
        return self

    def inc(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...
    def set_function(self, function: Callable[[], float]) -> None: ...
    def observe(self, amount: float) -> None: ...
    def clear(self) -> None: ...


class Watched:
    """A gauge that is the sum of what several objects hold."""

    def __init__(self, gauge: Gauge) -> None:
        self._held: list[Callable[[], float]] = []
        gauge.set_function(lambda: float(sum(held() for held in self._held)))

    def __call__(self, held: Callable[[], float]) -> Callable[[], None]:
        """Adds one; the answer takes it away again."""
        self._held.append(held)
        return lambda: self._held.remove(held)


class MethodMetrics:
    """Counts the calls of one method."""

    def __init__(
        self, started: Counter, handled: Counter, seconds: Histogram, labels: tuple[CallType, str, str]
    ) -> None:
        self.started: Callable[[], None] = started.labels(*labels).inc
        self._handled = {code: handled.labels(*labels, _camel_case(code)) for code, _ in Code.items()}
        # A stream lasts for as long as its client wants: its time says nothing about the server.
        self._seconds = seconds.labels(*labels) if labels[0] == "unary" else None

    def handled(self, code: str, seconds: float) -> None:
        """`code` is the name of a gRPC status."""
        self._handled[code].inc()
        if self._seconds is not None:
            self._seconds.observe(seconds)


class CallMetrics:
    """Calls and refusals, under the names that gRPC dashboards expect."""

    def __init__(self, registry: Registry) -> None:
        self._started = registry.counter("grpc_server_started_total", METHOD)
        self._handled = registry.counter("grpc_server_handled_total", (*METHOD, "grpc_code"))
        self._call_seconds = registry.histogram("grpc_server_handling_seconds", METHOD)
        self._refused = registry.counter("steersman_refused_total", ("reason",))
        self.unseen: Callable[[float], None] = registry.counter("steersman_unseen_calls_total").inc
        for reason in reasons():
            self._refused.labels(reason.lower())

    def calls(self, kind: CallType, service: str, method: str) -> MethodMetrics:
        """Counts one method: `service` is "package.Service"."""
        return MethodMetrics(self._started, self._handled, self._call_seconds, (kind, service, method))

    def refused(self, error: RequestError) -> None:
        self._refused.labels(error.reason.lower()).inc()


class EngineMetrics:
    """The queue, its batches, the graphs and the caches beside the engine."""

    def __init__(self, registry: Registry) -> None:
        counter, gauge, histogram = registry.counter, registry.gauge, registry.histogram
        self.watch_queue_depth = Watched(gauge("steersman_queue_depth"))
        self.watch_queue_capacity = Watched(gauge("steersman_queue_capacity"))
        self._queue_wait = histogram("steersman_queue_wait_seconds")
        self._batch_size = histogram("steersman_batch_size", buckets=BATCH_SIZES)
        self._inference = histogram("steersman_inference_seconds", ("stage",))
        for stage in STAGES:
            self._inference.labels(stage)
        self._state_hits = counter("steersman_state_cache_hits_total")
        self._state_misses = counter("steersman_state_cache_misses_total")
        self.watch_state_cache = Watched(gauge("steersman_state_cache_bytes"))
        self._kv_hits = counter("steersman_kv_cache_hits_total")
        self._kv_misses = counter("steersman_kv_cache_misses_total")
        self.kv_evicted: Callable[[], None] = counter("steersman_kv_cache_evictions_total").inc
        self.watch_kv_cache = Watched(gauge("steersman_kv_cache_bytes"))

    def batch(self, waits_seconds: Sequence[float]) -> None:
        """A batch begins: how long each of its requests has waited."""
        self._batch_size.observe(len(waits_seconds))
        for seconds in waits_seconds:
            self._queue_wait.observe(seconds)

    def inference(self, stage: str, seconds: float) -> None:
        self._inference.labels(stage).observe(seconds)

    def state_cache(self, hits: int, misses: int) -> None:
        """Of the requests of a batch: for how many the hidden state was there, and for how many it was not."""
        self._state_hits.inc(hits)
        self._state_misses.inc(misses)

    def kv_cache(self, hits: int, misses: int) -> None:
        """Of the new histories of a batch: how many were appended to, and how many were computed whole."""
        self._kv_hits.inc(hits)
        self._kv_misses.inc(misses)


class SteeringMetrics:
    """Recommendations, their controls, and what steering does to lists."""

    def __init__(self, registry: Registry) -> None:
        recommendations = registry.counter("steersman_recommendations_total", ("steered",))
        self._recommendations = {steered: recommendations.labels(str(steered).lower()) for steered in (False, True)}
        controls = registry.counter("steersman_controls_applied_total", ("target", "operation", "source"))
        self._controls = {
            (target, operation, source): controls.labels(
                target, _word(Operation.Name(operation)), _word(ControlSource.Name(source), "CONTROL_SOURCE_")
            )
            for target in ("feature", "concept", "attribute", "items", "words")
            for operation in Operation.values()
            for source in ControlSource.values()
            if operation and source and (target == "feature" or operation == OPERATION_ADD)
        }
        self.list_change = registry.histogram("steersman_list_change_ratio", buckets=TENTHS).observe
        degraded = registry.counter("steersman_degraded_total", ("reason",))
        self._degraded = {
            value: degraded.labels(_word(Degradation.Name(value)))
            for value in Degradation.values()
            if value != DEGRADATION_UNSPECIFIED
        }
        self._new_sessions = registry.counter("steersman_recommendations_new_session_total")

    def recommended(
        self, controls: Sequence[tuple[str, int, int]], degradations: Iterable[int], *, new_session: bool = False
    ) -> None:
        """A request was answered under controls, of which target, operation and source are given, and degradations.

        `new_session`: the store did not hold its session before.
        """
        if new_session:
            self._new_sessions.inc()
        self._recommendations[bool(controls)].inc()
        for kind, count in Counts(controls).items() if controls else ():
            self._controls[kind].inc(count)
        for degradation in degradations:
            self._degraded[degradation].inc()


class SessionMetrics:
    """The session store and the cache of sessions."""

    def __init__(self, registry: Registry) -> None:
        counter, gauge = registry.counter, registry.gauge
        self._redis_seconds = registry.histogram("steersman_redis_seconds", ("operation",))
        self._redis_errors = counter("steersman_redis_errors_total", ("operation",))
        self._redis_failures = counter("steersman_redis_failures_total", ("reason",))
        self.redis_up: Callable[[float], None] = gauge("steersman_redis_up").set
        # Not 0: a bundle that takes long to load must not look like a store that is down.
        self.redis_up(float("nan"))
        self.watch_breakers = gauge("steersman_redis_breakers_open").set_function
        self._session_hits = counter("steersman_session_cache_hits_total")
        self._session_misses = counter("steersman_session_cache_misses_total")
        self.watch_session_cache = Watched(gauge("steersman_session_cache_bytes"))
        self.session_created: Callable[[], None] = counter("steersman_sessions_created_total").inc
        self.session_deleted: Callable[[], None] = counter("steersman_sessions_deleted_total").inc
        events = counter("steersman_session_events_total", ("result",))
        self._appended, self._duplicates = events.labels("appended"), events.labels("duplicate")
        feedback = counter("steersman_session_feedback_total", ("kind",))
        self._feedback = {kind[0]: feedback.labels(kind) for kind in ("disliked", "hidden", "shown")}
        self._scenario_hits = counter("steersman_scenario_cache_hits_total")
        self._scenario_misses = counter("steersman_scenario_cache_misses_total")

    def declare_store(self, operations: Iterable[str], reasons: Iterable[str]) -> None:
        """What the store may be asked to do, and why it may fail: these series stand at 0."""
        for operation in operations:
            self._redis_seconds.labels(operation)
            self._redis_errors.labels(operation)
        for reason in reasons:
            self._redis_failures.labels(reason.lower())

    def redis(self, operation: str, seconds: float) -> None:
        self._redis_seconds.labels(operation).observe(seconds)

    def redis_failed(self, operation: str, reason: str) -> None:
        self._redis_errors.labels(operation).inc()
        self._redis_failures.labels(reason.lower()).inc()

    def session_read(self, remembered: bool) -> None:
        """A session was read for a recommendation: whether the cached one was current."""
        (self._session_hits if remembered else self._session_misses).inc()

    def feedback(self, kinds: Iterable[str]) -> None:
        """New events, by the first letter of their kind. Consumed ones are not counted here."""
        for kind, count in Counts(kinds).items():
            if kind in self._feedback:
                self._feedback[kind].inc(count)

    def scenario_read(self, remembered: bool) -> None:
        """A request named a scenario: whether the one in memory was used."""
        (self._scenario_hits if remembered else self._scenario_misses).inc()

    def session_events(self, *, appended: int, duplicates: int) -> None:
        self._appended.inc(appended)
        self._duplicates.inc(duplicates)


class HttpMetrics:
    """Requests to the gateway, those that it refuses itself included."""

    def __init__(self, registry: Registry) -> None:
        self._requests = registry.counter("steersman_http_requests_total", ("kind", "outcome"))
        for kind in HTTP_KINDS:
            for outcome in HTTP_OUTCOMES:
                self._requests.labels(kind, outcome)

    def http_request(self, kind: str, status: int) -> None:
        """`kind` is one of HTTP_KINDS, `status` that of HTTP."""
        self._requests.labels(kind, f"{status // 100}xx").inc()


class CertificateMetrics:
    """The server's certificate, in each process that speaks TLS by it."""

    def __init__(self, registry: Registry) -> None:
        expiry = registry.gauge("steersman_certificate_expiry_timestamp_seconds")
        expiry.set(float("inf"))
        self.watch_certificate: Callable[[Callable[[], float]], None] = expiry.set_function
        reads = registry.counter("steersman_certificate_reads_total", ("result",))
        self._reads = {result: reads.labels(result) for result in RESULTS}

    def certificate_read(self, result: str) -> None:
        """`result` is one of RESULTS."""
        self._reads[result].inc()


class ServerMetrics:
    """What is served, and the processes that serve it."""

    def __init__(self, registry: Registry) -> None:
        self._info = registry.gauge(
            "steersman_bundle_info", ("channel", "version", "format", "data", "backend", "device")
        )
        replays = registry.gauge("steersman_scenario_replays", ("status",))
        self._replays = {
            status: replays.labels(_word(ReplayStatus.Name(status), "REPLAY_STATUS_"))
            for status in ReplayStatus.values()
            if status != REPLAY_STATUS_UNSPECIFIED
        }
        seconds = registry.histogram("steersman_channel_seconds", ("channel", "outcome"))
        self._channels = {
            (channel, ok): seconds.labels(channel, "ok" if ok else "failed")
            for channel in ("stable", "canary")
            for ok in (True, False)
        }
        swaps = registry.counter("steersman_bundle_swaps_total", ("outcome",))
        self._swaps = {outcome: swaps.labels(outcome) for outcome in ("ok", "refused")}
        self.bundle_refused: Callable[[float], None] = registry.gauge("steersman_bundle_refused").set
        self._ready = registry.gauge("steersman_ready")
        self._workers = registry.gauge("steersman_workers")
        self.watch_tasks = registry.gauge("steersman_event_loop_tasks").set_function
        self.worker_died: Callable[[], None] = registry.counter("steersman_worker_deaths_total").inc

    def bundles(self, served: Iterable[tuple[str, str, str, str, str, str]]) -> None:
        """Channel, version, format, data, backend and device of each that is served now."""
        self._info.clear()
        for labels in served:
            self._info.labels(*labels).set(1)

    def answered(self, channel: str, ok: bool, seconds: float) -> None:
        """A call for items. `channel` is "stable" or "canary"."""
        self._channels[channel, ok].observe(seconds)

    def swapped(self, *, ok: bool) -> None:
        self._swaps["ok" if ok else "refused"].inc()

    def scenario_replays(self, counts: Mapping[int, int]) -> None:
        """How many scenarios there are of each ReplayStatus."""
        for status, gauge in self._replays.items():
            gauge.set(counts.get(status, 0))

    def ready(self, ready: bool) -> None:
        """Whether this process takes calls."""
        self._ready.set(ready)
        self._workers.set(ready)

    def all_ready(self, ready: bool) -> None:
        """Whether all workers of this supervisor take calls."""
        self._ready.set(ready)


class Metrics(
    CallMetrics, EngineMetrics, SteeringMetrics, SessionMetrics, HttpMetrics, CertificateMetrics, ServerMetrics
):
    """All metrics, of a process that does everything."""

    def __init__(self, *, collected: bool = True) -> None:
        self.registry = Registry(collected=collected)
        CallMetrics.__init__(self, self.registry)
        EngineMetrics.__init__(self, self.registry)
        SteeringMetrics.__init__(self, self.registry)
        SessionMetrics.__init__(self, self.registry)
        HttpMetrics.__init__(self, self.registry)
        CertificateMetrics.__init__(self, self.registry)
        ServerMetrics.__init__(self, self.registry)

    @contextmanager
    def exposed(self, host: str, port: int, token: str = "") -> Iterator[int]:
        """Serves the metrics over HTTP; gives the port, 0 if nothing is collected. Raises StartupError if it is taken."""
        if not self.registry.collected:
            yield 0
            return
        with exposed(self.registry, host, port, token) as taken:
            yield taken


def _camel_case(code: str) -> str:
    """As gRPC for Go writes it, which dashboards expect: Canceled, with one l."""
    if code == "OK":
        return code
    return "Canceled" if code == "CANCELLED" else code.title().replace("_", "")


def _word(name: str, prefix: str | None = None) -> str:
    """ "OPERATION_ADD" -> "add": the name of a value without that of its enum."""
    return (name.removeprefix(prefix) if prefix else name.partition("_")[2]).lower()
