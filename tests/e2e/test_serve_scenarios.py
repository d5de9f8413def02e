"""A bundle under which a scenario moved, with several workers: one of them replays, and a new generation may be refused."""

import shutil
import signal
import time
from pathlib import Path

import grpc

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.scenario_service_pb2 import PutScenarioRequest, Scenario
from steersman.v1.scenario_service_pb2_grpc import ScenarioServiceStub
from steersman_service.sessions.valkey import EmbeddedValkey
from tests.e2e.test_serve_workers import Served, point, served
from tests.service.api.test_replaying import changed, turned_by_half


def until_logged(server: Served, event: str, count: int = 1) -> None:
    while len([line for line in server.log if line["event"] == event]) < count:
        time.sleep(0.01)


def put_horror(server: Served) -> None:
    with grpc.insecure_channel(server.address) as channel:
        control = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=4.0)
        request = PutScenarioRequest(scenario=Scenario(name="home", controls=[control]))
        assert ScenarioServiceStub(channel).PutScenario(request, wait_for_ready=True).measured_histories


def test_a_bundle_that_moves_a_scenario_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(bundle_dir, tmp_path / "bundles" / bundle_dir.name))
    turned = changed(bundle_dir, tmp_path / "bundles", "items.parquet", turned_by_half)
    current = tmp_path / "current"
    current.symlink_to(first)
    flags = ("--workers", "2", "--scenario-replay", "block")
    with served(tmp_path / "data", current, *flags) as server:
        put_horror(server)
        old = server.pids()
        point(current, turned)
        server.process.send_signal(signal.SIGHUP)
        until_logged(server, "not replaced")
        (line,) = [line for line in server.log if line["event"] == "not replaced"]
        assert "home (moved)" in line["error"]
        assert [line["scenario"] for line in server.log if line["event"] == "scenario moved"] == ["home"]
        assert server.pids() == old
        assert "Horror" not in str(server.log)


def test_a_process_that_is_started_again_is_not_refused(bundle_dir: Path, tmp_path: Path) -> None:
    store = EmbeddedValkey.start(tmp_path / "store")
    try:
        flags = ("--workers", "1", "--scenario-replay", "block", "--redis-url", store.url)
        with served(tmp_path / "first", bundle_dir, *flags) as server:
            put_horror(server)
        store.stop()
        turned = changed(bundle_dir, tmp_path / "bundles", "items.parquet", turned_by_half)
        # Nothing can be compared without the store, and it must not keep a server from its start.
        with served(tmp_path / "second", turned, *flags) as server:
            assert not [line for line in server.log if line["event"] == "scenario moved"]
            assert [line for line in server.log if line["event"] == "scenarios not replayed"]
            store = EmbeddedValkey.start(tmp_path / "store")
            (worker,) = server.pids()
            server.kill(worker)
            server.until("steersman_ready 1.0", 'steersman_scenario_replays{status="moved"} 1.0')
            until_logged(server, "scenario moved")
            assert server.pids() != [worker]
    finally:
        store.stop()
