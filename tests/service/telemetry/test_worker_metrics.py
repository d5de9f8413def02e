"""Metrics of several processes, merged as the supervisor merges them."""

from math import isnan, nan

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from steersman_service.telemetry.families import Family, families, lasting, merged, metrics
from steersman_service.telemetry.metrics import Metrics

Counts = list[tuple[int, float]]
COUNTS = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), max_size=20)


def values(found: list[Family]) -> dict[str, float]:
    """By what Prometheus would call each of them."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in metrics(found)
        for sample in metric.samples
    }


def process(counts: Counts) -> CollectorRegistry:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", ("kind",), registry=registry)
    seconds = Histogram("seconds", "Time.", registry=registry)
    waiting = Gauge("waiting", "Calls that wait.", registry=registry)
    for kind, value in counts:
        counter.labels(str(kind)).inc()
        seconds.observe(value)
        waiting.inc()
    return registry


@settings(deadline=None)
@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_processes_count_as_one_would(shares: list[Counts]) -> None:
    together = values(families(process([count for share in shares for count in share])))
    apart = values(merged(families(process(share)) for share in shares))
    assert apart.keys() == together.keys()
    assert all(abs(apart[name] - value) < 1e-6 for name, value in together.items() if "_created" not in name)


def test_who_has_ended_stays_counted_and_waits_no_more() -> None:
    first, second = families(process([(1, 0.5)])), families(process([(1, 0.5), (2, 0.1)]))
    before, after = values(merged([first, second])), values(merged([lasting(first), second]))
    assert {name for name in before if before[name] != after[name]} == {"waiting[]"}
    assert (before["waiting[]"], after["waiting[]"]) == (3, 2)


def server(*, ready: bool, redis: float, queue: int) -> list[Family]:
    of_one = Metrics()
    of_one.ready(ready)
    of_one.redis_up(bool(redis)) if not isnan(redis) else None
    of_one.watch_queue_depth(lambda: queue)
    of_one.watch_queue_capacity(lambda: 256)
    of_one.bundles([("stable", "v", "1.0", "d", "onnx", "cpu")])
    return families(of_one.registry)


def test_gauges_mean_of_all_what_they_mean_of_one() -> None:
    supervisor = Metrics()
    supervisor.all_ready(False)
    own = families(supervisor.registry)
    found = values(
        merged(
            [
                own,
                server(ready=True, redis=1, queue=3),
                server(ready=True, redis=0, queue=4),
                server(ready=False, redis=nan, queue=0),
            ]
        )
    )
    assert found["steersman_ready[]"] == 0
    assert found["steersman_workers[]"] == 2
    assert found["steersman_redis_up[]"] == 0
    assert found["steersman_queue_depth[]"] == 7
    assert found["steersman_queue_capacity[]"] == 3 * 256
    assert [value for name, value in found.items() if name.startswith("steersman_bundle_info")] == [1]
    assert isnan(values(merged([own, server(ready=False, redis=nan, queue=0)]))["steersman_redis_up[]"])
