"""Metrics of the server's process, and of the engine's where that has one of its own, as those of one."""

from collections.abc import Iterable

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector

from steersman_service.telemetry.families import families, merged, metrics


class Processes(Collector):
    """`process_` metrics: memory, time and files are sums, as for several workers. A process that has ended has none."""

    def __init__(self) -> None:
        self._each = [ProcessCollector(registry=None)]

    def watch(self, pid: int) -> None:
        """Another process of this server."""
        self._each.append(ProcessCollector(pid=lambda: pid, registry=None))

    def collect(self) -> Iterable[Metric]:
        return metrics(merged(families(process) for process in self._each))
