"""A bundle under which a scenario moved, with several workers: one of them replays, and a new generation may be refused."""

import shutil
import signal
import time
from pathlib import Path

import grpc

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.scenario_service_pb2 import PutScenarioRequest, Scenario
from steersman.v1.scenario_service_pb2_grpc import ScenarioServiceStub
from tests.e2e.test_serve_workers import Served, point, served
from tests.service.api.test_replaying import changed, turned_by_half


def until_logged(server: Served, event: str, count: int = 1) -> None:
    while len([line for line in server.log if line["event"] == event]) < count:
        time.sleep(0.01)


def test_a_bundle_that_moves_a_scenario_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(bundle_dir, tmp_path / "bundles" / bundle_dir.name))
    turned = changed(bundle_dir, tmp_path / "bundles", "items.parquet", turned_by_half)
    current = tmp_path / "current"
    current.symlink_to(first)
    flags = ("--workers", "2", "--scenario-replay", "block")
    with served(tmp_path / "data", current, *flags) as server:
        with grpc.insecure_channel(server.address) as channel:
            control = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=4.0)
            scenario = Scenario(name="home", controls=[control])
            put = ScenarioServiceStub(channel).PutScenario(PutScenarioRequest(scenario=scenario), wait_for_ready=True)
            assert put.measured_histories
        old = server.pids()
        point(current, turned)
        server.process.send_signal(signal.SIGHUP)
        until_logged(server, "not replaced")
        (line,) = [line for line in server.log if line["event"] == "not replaced"]
        assert "home (moved)" in line["error"]
        assert [line["scenario"] for line in server.log if line["event"] == "scenario moved"] == ["home"]
        assert server.pids() == old
        assert "Horror" not in str(server.log)
