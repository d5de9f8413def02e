"""SIGTERM, with time for load balancers: health first, then the listener."""

import signal
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tests.e2e.test_serve_workers import served
from tests.service.test_server import watch

NEVER = "86400"
SERVICES = ("", "steersman.v1.RecommendationService", "steersman.v1.SessionService")


def test_health_says_so_before_calls_are_turned_away(bundle_dir: Path, tmp_path: Path) -> None:
    flags = ("--workers", "2", "--engines", "1", "--http", "on", "--http-port", "0", "--drain-delay-seconds", NEVER)
    with served(tmp_path, bundle_dir, *flags) as server:
        http = server.log[-1]["http"]
        with server.channel() as channel, server.channel() as other:
            health = [watch(each, service) for each in (channel, other) for service in SERVICES]
            assert {next(each) for each in health} == {HealthCheckResponse.SERVING}
            server.process.send_signal(signal.SIGTERM)
            assert {next(each) for each in health} == {HealthCheckResponse.NOT_SERVING}
        server.until("steersman_ready 0.0", "steersman_workers 0.0")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{http}/healthz")
        # Calls are taken, those of new connections included.
        for _ in range(4):
            with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                assert RecommendationServiceStub(channel).Recommend(RecommendRequest(k=3)).items
        # A second signal ends the delay.
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == 0
        assert [line["event"] for line in server.log if line["event"] == "draining"] == ["draining"]
