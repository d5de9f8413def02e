"""Several workers and one engine, as `steersman serve --engine shared` runs them: each is killed, replaced, told to end."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow.parquet as pq
import pytest

from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import Event
from tests.e2e.processes import engine_of, engines_of, until_gone
from tests.e2e.test_serve_apart import CALLS, waiting
from tests.e2e.test_serve_workers import COMMAND, WORKERS, Load, Served, point, served
from tests.service.bundle.test_bundle import resign
from tests.serving import explain, serving, settings_for

SHARED = [*WORKERS, "--engines", "1"]


def value(server: Served, name: str) -> float:
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", server.scrape(), re.MULTILINE)
    return float(found)


def until_logged(server: Served, event: str) -> None:
    while not any(line["event"] == event for line in server.log):
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server(current: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), current, *SHARED) as server:
        yield server


def test_answers_are_those_of_one_server(server: Served, bundle_dir: Path, tmp_path: Path) -> None:
    server.until("steersman_ready 1.0", "steersman_workers 2.0")
    assert len(server.pids()) == 2
    with serving(settings_for(tmp_path, bundle_dir)) as alone:
        for events in range(1, 12):
            request = RecommendRequest(history=History(item_ids=[str(101 + event) for event in range(events)]), k=60)
            wanted = alone.recommendation.Recommend(request)
            with server.channel() as channel:
                answer = RecommendationServiceStub(channel).Recommend(request)
            assert answer.bundle_version == wanted.bundle_version
            scores = {item.item_id: item.score for item in wanted.items}
            assert {item.item_id: item.score for item in answer.items} == pytest.approx(scores, rel=1e-5, abs=1e-5)
        with server.channel() as channel:
            info = ModelServiceStub(channel).GetModelInfo(GetModelInfoRequest())
        assert info == alone.model.GetModelInfo(GetModelInfoRequest())


def test_what_the_engine_does_is_counted_once(server: Served, bundle_dir: Path, tmp_path: Path) -> None:
    """As by one server that is asked the same."""
    names = [
        'steersman_inference_seconds_count{stage="search"}',
        "steersman_state_cache_hits_total",
        "steersman_state_cache_misses_total",
        "steersman_state_cache_bytes",
        "steersman_kv_cache_misses_total",
    ]
    histories = [["111", "112"], ["113", "114"], ["111", "112"], ["115"]]
    with served(tmp_path, bundle_dir, "--engines", "1") as alone:
        moved = []
        for one in (server, alone):
            before = [value(one, name) for name in names]
            for history in histories:
                with one.channel() as channel:
                    RecommendationServiceStub(channel).Recommend(RecommendRequest(history=History(item_ids=history)))
            moved.append([value(one, name) - then for name, then in zip(names, before, strict=True)])
    assert moved[0] == moved[1]
    assert moved[0][:3] == [4.0, 1.0, 3.0]


def test_a_session_goes_on_with_another_worker_where_it_was(server: Served) -> None:
    """The engine keeps what was read of it, whoever asked: one event more costs one event."""

    def turn(event: str) -> None:
        with server.channel() as channel:
            request = RecommendRequest(session_id="s", new_events=[Event(event_id=event, item_id=event)])
            assert not RecommendationServiceStub(channel).Recommend(request).degradations

    turn("131")
    engine = engine_of(server.process.pid)
    hits, misses = (value(server, f"steersman_kv_cache_{found}_total") for found in ("hits", "misses"))
    for event in ("142", "153"):
        old = server.pids()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        for pid in old:
            until_gone(pid)
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        turn(event)
    assert value(server, "steersman_kv_cache_hits_total") - hits == 2.0
    assert value(server, "steersman_kv_cache_misses_total") == misses
    assert engine_of(server.process.pid) == engine


def test_a_worker_that_is_killed_leaves_the_engine_alone(server: Served) -> None:
    engine, dying = engine_of(server.process.pid), server.pids()[0]
    deaths = value(server, "steersman_worker_deaths_total")
    with Load(server) as load:
        os.kill(dying, signal.SIGKILL)
        server.until(f"steersman_worker_deaths_total {deaths + 1}")
        load.more()
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        load.more()
    assert not load.errors
    assert dying not in server.pids()
    assert engine_of(server.process.pid) == engine


def test_an_engine_that_is_killed_fails_what_waits_and_is_started_again(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *SHARED) as server:
        engine, old = engine_of(server.process.pid), server.pids()
        with waiting(server, engine) as calls:
            os.kill(engine, signal.SIGKILL)
            for call in calls:
                failed = explain(call.exception())
                assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
                assert failed.retry_seconds
        server.until("steersman_ready 1.0", "steersman_workers 2.0", "steersman_worker_deaths_total 2.0")
        again = engine_of(server.process.pid)
        assert again != engine
        assert not set(old) & set(server.pids())
        # Nobody has to ask to find it out.
        os.kill(again, signal.SIGKILL)
        server.until("steersman_ready 1.0", "steersman_workers 2.0", "steersman_worker_deaths_total 4.0")
        with Load(server) as load:
            pass
        assert not load.errors
    ended = [line["exit_code"] for line in server.log if line["event"] == "the engine's process ended"]
    assert ended == [-9, -9]


def test_sighup_brings_an_engine_for_the_new_bundle(server: Served, current: Path) -> None:
    engine, old, first = engine_of(server.process.pid), server.pids(), current.resolve()
    second = Path(shutil.copytree(first, first.parent / "second"))
    resign(second, lambda manifest: manifest.update(created="2026-01-01T00:00:00Z"))
    searched = value(server, 'steersman_inference_seconds_count{stage="search"}')
    point(current, second)
    with Load(server) as load:
        server.process.send_signal(signal.SIGHUP)
        while set(old) & set(server.pids()):
            load.more()
        load.more()
    assert not load.errors
    until_gone(engine)
    server.until("steersman_ready 1.0", "steersman_workers 2.0")
    (version,) = re.findall(r'^steersman_bundle_info\{.*version="(\w+)"\} 1.0$', server.scrape(), re.MULTILINE)
    assert version == json.loads((second / "manifest.json").read_text())["version"]
    # What the old engine had counted stays counted.
    assert value(server, 'steersman_inference_seconds_count{stage="search"}') > searched
    # From now on that is what is started again, the engine included.
    shutil.rmtree(first)
    os.kill(engine_of(server.process.pid), signal.SIGKILL)
    server.until("steersman_ready 0.0")
    server.until("steersman_ready 1.0", "steersman_workers 2.0")


def test_workers_and_engine_stay_where_a_new_engine_cannot_load(server: Served, current: Path, tmp_path: Path) -> None:
    engine, pids, bundle = engine_of(server.process.pid), server.pids(), current.resolve()
    point(current, tmp_path)
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "workers not replaced")
    assert any("manifest.json" in line.get("error", "") for line in server.log)
    assert (engine_of(server.process.pid), server.pids()) == (engine, pids)
    # Nor where the engine can, and a worker cannot: it alone reads the labels of features.
    unlabelled = Path(shutil.copytree(bundle, bundle.parent / "unlabelled"))
    pq.write_table(pq.read_table(bundle / "features.parquet").drop_columns("label"), unlabelled / "features.parquet")
    resign(unlabelled)
    server.log.clear()
    point(current, unlabelled)
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "workers not replaced")
    assert any("label" in line.get("error", "") for line in server.log)
    while len(engines := engines_of(server.process.pid)) > 1:
        time.sleep(0.01)
    assert (engines, server.pids()) == ([engine], pids)
    point(current, bundle)
    server.until("steersman_ready 1.0", "steersman_workers 2.0")


def test_sigterm_drains_workers_before_the_engine_ends(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *SHARED) as server:
        engine, pids = engine_of(server.process.pid), server.pids()
        with waiting(server, engine) as calls:
            for pid in (engine, *pids):  # for their supervisor, but sent to all
                os.kill(pid, signal.SIGHUP)
            for pid in (engine, server.process.pid):
                os.kill(pid, signal.SIGTERM)
            server.until("steersman_ready 0.0")
            os.kill(engine, signal.SIGCONT)
            assert [len(call.result().items) for call in calls] == [3] * CALLS
        assert server.process.wait() == 0
        for pid in (engine, *pids):
            assert not Path(f"/proc/{pid}").exists()


def test_a_drain_does_not_wait_for_an_engine_that_loads(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *SHARED) as server:
        engine = engine_of(server.process.pid)
        server.process.send_signal(signal.SIGHUP)
        while len(engines := engines_of(server.process.pid)) < 2:
            time.sleep(0.01)
        (loading,) = set(engines) - {engine}
        os.kill(loading, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        server.until("steersman_ready 0.0")
        assert loading in engines_of(server.process.pid)
        os.kill(loading, signal.SIGCONT)
        assert server.process.wait() == 0
        until_gone(loading)


def test_an_engine_that_cannot_load_says_why(tmp_path: Path) -> None:
    command = [*COMMAND, *SHARED, "--data", str(tmp_path), "--bundle", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_outlives_the_supervisor(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *SHARED) as server:
        engine, pids = engine_of(server.process.pid), server.pids()
        server.process.kill()
        for pid in (*pids, engine):
            until_gone(pid)
