"""Traffic of the server as JSON, from its own metrics."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import grpc
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.http import traffic
from steersman_service.http.traffic import Samples
from tests.service.http.gateways import Gateway, connect_status, gatewayed, reason, recording
from tests.serving import Running, failure

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


@pytest.fixture
def front(server: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setattr(traffic, "FRESH_SECONDS", 0.0)
    url = f"http://127.0.0.1:{server.ports.metrics}/metrics"
    with gatewayed(f"127.0.0.1:{server.ports.grpc}", metrics_url=url) as running:
        yield running


def told(gateway: Gateway) -> Any:
    reply = gateway.get("/metrics.json")
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    return reply.json


def calls(answer: Any, method: str, code: str) -> float:
    return float(sum(one["count"] for one in answer["calls"] if (one["method"], one["code"]) == (method, code)))


def test_what_the_server_did_is_counted(server: Running, front: Gateway) -> None:
    before = told(front)
    for _ in range(3):
        server.recommendation.Recommend(RecommendRequest(k=3))
    for _ in range(2):
        server.recommendation.Recommend(RecommendRequest(k=3, controls=[HORROR]))
    failure(server.recommendation.Recommend, RecommendRequest(k=1 << 20))
    after = told(front)
    assert calls(after, "Recommend", "OK") - calls(before, "Recommend", "OK") == 5
    assert calls(after, "Recommend", "InvalidArgument") - calls(before, "Recommend", "InvalidArgument") == 1
    assert {one["service"] for one in after["calls"]} >= {"steersman.v1.RecommendationService"}
    given = {kind: after["recommendations"][kind] - before["recommendations"][kind] for kind in ("plain", "steered")}
    assert given == {"plain": 3, "steered": 2}
    for name, more in (("recommend_seconds", 6), ("queue_wait_seconds", 5)):
        bounds, cumulative = after[name]["bounds"], after[name]["cumulative"]
        assert bounds == sorted(bounds)
        assert cumulative == sorted(cumulative)
        assert len(bounds) == len(cumulative) > 10
        assert after[name]["count"] - before[name]["count"] == more
        assert after[name]["count"] >= cumulative[-1]
        assert after[name]["sum"] > before[name]["sum"]
    assert after["uptime_seconds"] >= 0
    assert after["time"] >= before["time"]
    assert set(after["list_change"]) == {"sum", "count"}
    assert set(after["session_cache"]) == {"hits", "misses"}


@contextmanager
def scraped(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A metrics port that answers so; gives its URL, and what was asked for."""
    asked = list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/metrics", asked
        finally:
            listening.shutdown()
            thread.join()


def test_many_pages_cost_one_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "FRESH_SECONDS", 1e6)
    body = b'steersman_recommendations_total{steered="true"} 7.0\n'
    with scraped(200, body) as (url, asked), recording() as (target, _), gatewayed(target, metrics_url=url) as gateway:
        pages = [threading.Thread(target=told, args=(gateway,)) for _ in range(8)]
        for page in pages:
            page.start()
        for page in pages:
            page.join()
        assert told(gateway)["recommendations"] == {"plain": 0, "steered": 7}
        assert told(gateway)["uptime_seconds"] is None
        assert asked == ["/metrics"]


@pytest.mark.parametrize(("status", "body"), [(500, b""), (404, b""), (200, b"\xff"), (200, b"a_b 1x")])
def test_metrics_that_do_not_answer_are_told(status: int, body: bytes) -> None:
    with scraped(status, body) as (url, _), recording() as (target, _), gatewayed(target, metrics_url=url) as gateway:
        reply = gateway.get("/metrics.json")
    assert (reply.status, reason(connect_status(reply))) == (503, "METRICS_UNAVAILABLE")
    assert b"127.0.0.1" not in reply.body


def test_nothing_that_listens_is_told() -> None:
    with scraped(200, b"") as (url, _):
        pass
    with recording() as (target, _), gatewayed(target, metrics_url=url) as gateway:
        assert gateway.get("/metrics.json").status == 503


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_does_not_say_who_may_lets_nobody_see_them(code: grpc.StatusCode) -> None:
    """It may be overloaded, or not reach the issuer of tokens."""
    with scraped(200, b"a 1.0\n") as (url, asked), recording(lambda context: context.abort(code, "")) as (target, _):
        with gatewayed(target, metrics_url=url) as gateway:
            assert gateway.get("/metrics.json").status in (500, 503)
        assert not asked


def test_no_metrics_are_told() -> None:
    with recording() as (target, _), gatewayed(target) as gateway:
        reply = gateway.get("/metrics.json")
    assert (reply.status, reason(connect_status(reply))) == (404, "NO_METRICS")
    assert "--metrics URL" in reply.json["message"]


def test_histograms_of_several_labels_are_added() -> None:
    lines = [
        "# TYPE a histogram",
        'a_bucket{le="0.1",grpc_method="Recommend"} 2.0',
        'a_bucket{le="0.1",grpc_method="Explain",odd="a\\"b,c=\\"d}"} 1.0',
        'a_bucket{le="+Inf",grpc_method="Recommend"} 4.0',
        'a_sum{grpc_method="Recommend"} 1.5',
        'a_count{grpc_method="Recommend"} 4.0',
    ]
    samples = Samples(lines)
    assert samples.histogram("a") == {"bounds": [0.1], "cumulative": [3.0], "sum": 1.5, "count": 4.0}
    assert samples.histogram("a", {"grpc_method": "Recommend"})["cumulative"] == [2.0]
