"""Prometheus metrics of one server, in a registry of its own. No id of a user, an item or a feature is ever a label."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from steersman_service.errors import StartupError

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
METHOD = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The names of call metrics are those that gRPC dashboards expect."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._started = Counter("grpc_server_started_total", "Calls begun.", METHOD, registry=self.registry)
        self._handled = Counter(
            "grpc_server_handled_total", "Calls ended, by status.", (*METHOD, "grpc_code"), registry=self.registry
        )
        self._handling = Histogram(
            "grpc_server_handling_seconds", "Time of a call.", METHOD, registry=self.registry, buckets=SECONDS
        )
        self._batch = Histogram(
            "steersman_batch_size",
            "Requests computed together.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )
        self._inference = Histogram(
            "steersman_inference_seconds",
            "Time of a batch in one graph.",
            ("stage",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._queue = Gauge("steersman_queue_depth", "Requests that wait for a batch.", registry=self.registry)
        self._info = Gauge(
            "steersman_bundle_info",
            "1; the labels say what is served.",
            ("version", "format", "data", "backend", "device"),
            registry=self.registry,
        )

    def started(self, method: str) -> None:
        """`method` is "/package.Service/Method"."""
        self._started.labels(*_labels(method)).inc()

    def handled(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        camel_case = "OK" if code is grpc.StatusCode.OK else code.name.title().replace("_", "")
        self._handled.labels(*_labels(method), camel_case).inc()
        self._handling.labels(*_labels(method)).observe(seconds)

    def batch(self, size: int) -> None:
        self._batch.observe(size)

    def inference(self, stage: str, seconds: float) -> None:
        self._inference.labels(stage).observe(seconds)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        self._queue.set_function(depth)

    def bundle(self, *, version: str, bundle_format: str, data: str, backend: str, device: str) -> None:
        self._info.labels(version, bundle_format, data, backend, device).set(1)

    @contextmanager
    def exposed(self, host: str, port: int) -> Iterator[int]:
        """Serves the metrics over HTTP; gives the port. Raises StartupError if it is taken."""
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise StartupError(f"metrics cannot listen on {host}:{port}: {error.strerror}") from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _labels(method: str) -> tuple[str, str, str]:
    service, _, name = method.removeprefix("/").partition("/")
    return "unary", service, name
