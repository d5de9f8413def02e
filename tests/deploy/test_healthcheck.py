"""The image's health check, against a real server whose Redis goes away."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from steersman_service.sessions.valkey import EmbeddedValkey
from tests.deploy.files import DEPLOY
from tests.serving import serving, settings_for


def healthcheck(port: int, *service: str) -> tuple[int, str]:
    """Beside a proxy that cannot be reached."""
    environment = {name: value for name, value in os.environ.items() if name not in ("no_proxy", "no_grpc_proxy")}
    done = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py", *service],
        env=environment | {"STEERSMAN_PORT": str(port), "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def test_a_container_is_healthy_without_redis_and_not_without_a_server(bundle_dir: Path, tmp_path: Path) -> None:
    sessions = "steersman.v1.SessionService"
    store = EmbeddedValkey.start(tmp_path / "store")
    try:
        with serving(settings_for(tmp_path, bundle_dir, redis_url=store.url)) as server:
            port = server.ports.grpc
            stub: Any = HealthStub(server.channel)
            statuses = stub.Watch(HealthCheckRequest(service=sessions), timeout=60)
            next(statuses)
            assert healthcheck(port, sessions) == (0, "")
            store.stop()
            next(statuses)
            assert healthcheck(port, sessions) == (1, f"127.0.0.1:{port}: NOT_SERVING")
            assert healthcheck(port) == (0, "")
    finally:
        store.stop()
    assert healthcheck(port) == (1, f"127.0.0.1:{port}: UNAVAILABLE")
