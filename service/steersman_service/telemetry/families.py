"""Merges the metrics of several processes into those of one server."""

from collections.abc import Callable, Iterable, Sequence
from math import isnan
from operator import itemgetter
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.registry import Collector

Sample = tuple[str, dict[str, str], float]
"""Name, labels, value."""


class Family(NamedTuple):
    """All samples of a metric, as they travel between processes."""

    name: str
    text: str
    kind: str
    """ "counter", "gauge" or "histogram"."""
    samples: Sequence[Sample]


def _least(values: Sequence[float]) -> float:
    """NaN means that a process does not know: it counts only if no process knows."""
    return min(values, key=lambda value: (isnan(value), value))


# How values of several processes become one; all others are summed.
RULES: dict[str, Callable[[Sequence[float]], float]] = {
    # The supervisor's, which comes first: it alone knows how many workers there should be.
    "steersman_ready": itemgetter(0),
    "steersman_redis_up": _least,
    "steersman_certificate_expiry_timestamp_seconds": min,
    "steersman_bundle_info": max,
    "python_info": max,
    "process_start_time_seconds": _least,
    "process_max_fds": _least,
}


def families(registry: Collector) -> list[Family]:
    """What `registry` collects."""
    return [
        Family(metric.name, metric.documentation, metric.type, [sample[:3] for sample in metric.samples])
        for metric in registry.collect()
    ]


def lasting(told: Iterable[Family]) -> list[Family]:
    """What stays of a process that has ended: its counts. Without them every sum would fall when a worker ends."""
    return [family for family in told if family.kind in ("counter", "histogram")]


def merged(sources: Iterable[Iterable[Family]]) -> list[Family]:
    """One family for each name, and one sample for each name and labels."""
    heads: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for family in (family for source in sources for family in source):
        heads.setdefault(family.name, family)
        of_family = values.setdefault(family.name, {})
        for name, labels, value in family.samples:
            of_family.setdefault((name, tuple(labels.items())), []).append(value)
    return [
        head._replace(
            samples=[
                (sample, dict(labels), RULES.get(name, sum)(listed))
                for (sample, labels), listed in values[name].items()
            ]
        )
        for name, head in heads.items()
    ]


def metrics(merged_families: Iterable[Family]) -> list[Metric]:
    """As the Prometheus client writes them out."""
    made = []
    for family in merged_families:
        metric = Metric(family.name, family.text, family.kind)
        for sample in family.samples:
            metric.add_sample(*sample)
        made.append(metric)
    return made
