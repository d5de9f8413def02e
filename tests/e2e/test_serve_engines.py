"""Two front ends and an engine host: each is killed, replaced, told to end, while real calls wait."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import Event
from tests.e2e.processes import IMPATIENT_PROGRAM, engine_of, engines_of, until_gone
from tests.e2e.test_serve_workers import COMMAND, WORKERS, Load, Served, point, served
from tests.service.bundle.test_bundle import resign
from tests.service.test_server import health, scrape, watch
from tests.serving import Running, explain, serving, settings_for

ENGINES = [*WORKERS, "--engines", "1"]
CALLS = 40
STARTED = 'grpc_server_started_total{grpc_method="Recommend",grpc_service="steersman.v1.RecommendationService",grpc_type="unary"}'
REQUEST = RecommendRequest(history=History(item_ids=["101", "102"]), k=3)


@contextmanager
def waiting(server: Served, *engines: int) -> Iterator[list[Any]]:
    """Calls that have reached the server, whose engines are stopped."""
    before = value(server, STARTED)
    for engine in engines:
        os.kill(engine, signal.SIGSTOP)
    with grpc.insecure_channel(server.address) as channel:
        recommend = RecommendationServiceStub(channel).Recommend
        calls = [recommend.future(REQUEST, timeout=60) for _ in range(CALLS)]
        server.until_at_least(STARTED, before + CALLS)
        yield calls


def value(server: Served, name: str) -> float:
    return value_in(server.scrape(), name)


def value_in(text: str, name: str) -> float:
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def until_logged(server: Served, event: str) -> None:
    while not any(line["event"] == event for line in server.log):
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server(current: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), current, *ENGINES) as server:
        yield server


@pytest.fixture(scope="module")
def alone(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process that does all."""
    with serving(settings_for(tmp_path_factory.mktemp("alone"), bundle_dir)) as alone:
        yield alone


def test_answers_are_those_of_one_server(server: Served, alone: Running) -> None:
    server.until("steersman_ready 1.0", "steersman_workers 2.0")
    assert len(server.pids()) == 2
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


def test_what_the_engine_does_is_counted_once(server: Served, alone: Running) -> None:
    """As by one process that is asked the same."""
    names = [
        'steersman_inference_seconds_count{stage="search"}',
        "steersman_state_cache_hits_total",
        "steersman_state_cache_misses_total",
        "steersman_state_cache_bytes",
        "steersman_kv_cache_misses_total",
    ]
    histories = [["111", "112"], ["113", "114"], ["111", "112"], ["115"]]
    moved = []
    for address, scraped in ((server.address, server.scrape), (f"127.0.0.1:{alone.ports.grpc}", lambda: scrape(alone))):
        before = [value_in(scraped(), name) for name in names]
        for history in histories:
            with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                RecommendationServiceStub(channel).Recommend(RecommendRequest(history=History(item_ids=history)))
        moved.append([value_in(scraped(), name) - then for name, then in zip(names, before, strict=True)])
    assert moved[0] == moved[1]
    # Memory is that of all processes.
    assert value(server, "process_resident_memory_bytes") > 3 * 20e6 + resident_bytes(engine_of(server.process.pid))
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
        for pid in server.pids():
            server.kill(pid)
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        turn(event)
    assert value(server, "steersman_kv_cache_hits_total") - hits == 2.0
    assert value(server, "steersman_kv_cache_misses_total") == misses
    assert engine_of(server.process.pid) == engine


def test_a_worker_that_is_killed_leaves_the_engine_alone(server: Served) -> None:
    engine, dying = engine_of(server.process.pid), server.pids()[0]
    with Load(server) as load:
        server.kill(dying)
        load.more()
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        load.more()
    assert not load.errors
    assert dying not in server.pids()
    assert engine_of(server.process.pid) == engine


def test_an_engine_that_is_killed_fails_what_waits_and_is_started_again(bundle_dir: Path, tmp_path: Path) -> None:
    """Meanwhile a load balancer hears that recommendations are not served; the server is alive, and needs no restart."""
    with (
        served(tmp_path, bundle_dir, *ENGINES, program=IMPATIENT_PROGRAM) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        engine, old = engine_of(server.process.pid), server.pids()
        statuses = watch(channel, "steersman.v1.RecommendationService")
        assert next(statuses) == HealthCheckResponse.SERVING
        with waiting(server, engine) as calls:
            os.kill(engine, signal.SIGKILL)
            assert next(statuses) == HealthCheckResponse.NOT_SERVING
            assert health(channel, "") == HealthCheckResponse.SERVING
            for call in calls:
                failed = explain(call.exception())
                assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
                assert failed.retry_seconds
        assert next(statuses) == HealthCheckResponse.SERVING
        server.until_at_least("steersman_worker_deaths_total", 1)
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        assert engine_of(server.process.pid) != engine
        assert server.pids() == old, "front ends stay, and find the new engine"
        with Load(server) as load:
            pass
        assert not load.errors
    assert [line["exit_code"] for line in server.log if line["event"] == "process died"] == [-9]


def test_two_engines_share_the_sessions_and_one_answers_for_both(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *WORKERS, "--engines", "2") as server:

        def turn(event: str) -> int:
            """Asks for each of 20 sessions; the errors."""
            errors = 0
            for session in range(20):
                with grpc.insecure_channel(server.address) as channel:
                    new = [Event(event_id=event, item_id=str(101 + session + int(event)))]
                    request = RecommendRequest(session_id=f"s{session}", new_events=new)
                    try:
                        RecommendationServiceStub(channel).Recommend(request, timeout=60)
                    except grpc.RpcError:
                        errors += 1
            return errors

        assert turn("1") == 0
        hits, misses = (value(server, f"steersman_kv_cache_{found}_total") for found in ("hits", "misses"))
        assert turn("2") == turn("3") == 0
        assert value(server, "steersman_kv_cache_hits_total") - hits == 40.0, "each found what its engine kept"
        assert value(server, "steersman_kv_cache_misses_total") == misses
        dying, other = engines_of(server.process.pid)
        server.kill(dying)
        assert turn("4") == 0, "the other engine answers for both"
        server.until("steersman_ready 1.0")
        assert other in engines_of(server.process.pid)
        assert len(engines_of(server.process.pid)) == 2
        assert turn("5") == 0


def test_a_server_of_nohup_outlives_its_terminal(bundle_dir: Path, tmp_path: Path) -> None:
    """The signal that closes it has all processes replaced. It ends when it is told to, though its engine is stopped."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what it starts with
    try:
        flags = ("--engines", "1", "--drain-seconds", "1")
        with served(tmp_path, bundle_dir, *flags, program=IMPATIENT_PROGRAM) as server:
            first = engine_of(server.process.pid)
            os.killpg(server.process.pid, signal.SIGHUP)
            with grpc.insecure_channel(server.address) as channel:
                assert len(RecommendationServiceStub(channel).Recommend(REQUEST, timeout=60).items) == 3
            until_gone(first)
            server.until("steersman_ready 1.0")
            engine = engine_of(server.process.pid)
            with waiting(server, engine) as calls:
                server.process.send_signal(signal.SIGTERM)
                assert all(call.exception() for call in calls)
                assert server.process.wait(60) == 0
            until_gone(engine)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert any(line["event"] == "process killed" and line["why"] == "does not end" for line in server.log)


def policies(pid: int) -> dict[int, int]:
    """Scheduling policies of a process's threads."""
    found = {}
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        with suppress(ProcessLookupError):  # it has ended
            found[thread] = os.sched_getscheduler(thread)
    return found


def test_only_threads_of_grpc_wait_for_a_free_core(server: Served) -> None:
    front_end = server.pids()[0]
    own, engine = policies(front_end), policies(engine_of(server.process.pid))
    assert own[front_end] == os.SCHED_OTHER
    assert os.SCHED_BATCH in own.values()
    assert set(engine.values()) == {os.SCHED_OTHER}


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
    server.kill(engine_of(server.process.pid))
    server.until("steersman_ready 1.0", "steersman_workers 2.0")


def test_workers_and_engine_stay_where_a_new_engine_cannot_load(server: Served, current: Path, tmp_path: Path) -> None:
    engine, pids, bundle = engine_of(server.process.pid), server.pids(), current.resolve()
    point(current, tmp_path)
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "not replaced")
    assert any("manifest.json" in line.get("error", "") for line in server.log)
    assert (engine_of(server.process.pid), server.pids()) == (engine, pids)
    # Nor where the engine can, and a worker cannot: it alone reads the labels of features.
    unlabelled = Path(shutil.copytree(bundle, bundle.parent / "unlabelled"))
    pq.write_table(pq.read_table(bundle / "features.parquet").drop_columns("label"), unlabelled / "features.parquet")
    resign(unlabelled)
    server.log.clear()
    point(current, unlabelled)
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "not replaced")
    assert any("label" in line.get("error", "") for line in server.log)
    while len(engines := engines_of(server.process.pid)) > 1:
        time.sleep(0.01)
    assert (engines, server.pids()) == ([engine], pids)
    point(current, bundle)
    server.until("steersman_ready 1.0", "steersman_workers 2.0")


def test_sigterm_drains_front_ends_before_the_engine_ends(server: Served) -> None:
    """Even if signals are sent to every process. The last test of this server."""
    engine, pids = engine_of(server.process.pid), server.pids()
    with server.channel() as channel, waiting(server, engine) as calls, ThreadPoolExecutor() as pool:
        statuses = watch(channel, "")
        assert next(statuses) == HealthCheckResponse.SERVING
        # Read as it comes: gRPC drops what was not read when the stream ends.
        told = pool.submit(next, statuses)
        for pid in (engine, *pids):
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                os.kill(pid, number)
        os.killpg(server.process.pid, signal.SIGTERM)
        assert told.result() == HealthCheckResponse.NOT_SERVING
        os.kill(engine, signal.SIGCONT)
        assert [len(call.result().items) for call in calls] == [3] * CALLS
    assert server.process.wait() == 0
    for pid in (engine, *pids):
        assert not Path(f"/proc/{pid}").exists()


def test_a_drain_does_not_wait_for_an_engine_that_loads(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *ENGINES) as server:
        engine = engine_of(server.process.pid)
        server.process.send_signal(signal.SIGHUP)
        while len(engines := engines_of(server.process.pid)) < 2:
            time.sleep(0.01)
        (loading,) = set(engines) - {engine}
        os.kill(loading, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == 0
        until_gone(loading)


def test_an_engine_that_cannot_load_says_why(tmp_path: Path) -> None:
    command = [*COMMAND, *ENGINES, "--data", str(tmp_path), "--bundle", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_outlives_the_supervisor(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *ENGINES) as server:
        engine, pids = engine_of(server.process.pid), server.pids()
        server.process.kill()
        for pid in (*pids, engine):
            until_gone(pid)
