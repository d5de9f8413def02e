"""`steersman serve` with its engine in a process of its own: either is killed, both are told to end. Real calls wait meanwhile."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tests.e2e.processes import engine_of, until_gone
from tests.e2e.test_serve_workers import Load, Served, served
from tests.serving import explain

CALLS = 40
STARTED = 'grpc_server_started_total{grpc_method="Recommend",grpc_service="steersman.v1.RecommendationService",grpc_type="unary"}'
REQUEST = RecommendRequest(history=History(item_ids=["101", "102"]), k=3)


@contextmanager
def waiting(server: Served, engine: int) -> Iterator[list[Any]]:
    """Calls that have reached the server, whose engine stands still."""
    os.kill(engine, signal.SIGSTOP)
    with grpc.insecure_channel(server.address) as channel:
        recommend = RecommendationServiceStub(channel).Recommend
        calls = [recommend.future(REQUEST, timeout=60) for _ in range(CALLS)]
        server.until(f"{STARTED} {CALLS}.0")
        yield calls


@pytest.fixture
def server(bundle_dir: Path, tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, bundle_dir, "--engines", "1") as server:
        yield server


def test_a_killed_engine_fails_what_waits_and_ends_the_server(server: Served) -> None:
    engine = engine_of(server.process.pid)
    with waiting(server, engine) as calls:
        os.kill(engine, signal.SIGKILL)
        for call in calls:
            failed = explain(call.exception())
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
            assert failed.retry_seconds
    assert server.process.wait() == 1
    server.end()
    assert [line["exit_code"] for line in server.log if line["event"] == "the engine's process ended"] == [-9]
    assert "ended by itself" in server.rest


def test_an_engine_does_not_outlive_its_server(server: Served) -> None:
    engine = engine_of(server.process.pid)
    server.process.kill()
    until_gone(engine)


def test_a_drain_needs_the_engine_until_its_end(server: Served) -> None:
    """Whatever is sent to the whole group, or to every process."""
    engine = engine_of(server.process.pid)
    with waiting(server, engine) as calls:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.killpg(server.process.pid, number)
            os.kill(engine, number)
        server.until("steersman_ready 0.0")
        os.kill(engine, signal.SIGCONT)
        assert [len(call.result().items) for call in calls] == [3] * CALLS
    assert server.process.wait() == 0
    until_gone(engine)


def test_a_server_of_nohup_outlives_its_terminal(bundle_dir: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what it starts with
    try:
        with served(tmp_path, bundle_dir, "--engines", "1") as server:
            os.killpg(server.process.pid, signal.SIGHUP)
            with grpc.insecure_channel(server.address) as channel:
                assert len(RecommendationServiceStub(channel).Recommend(REQUEST, timeout=60).items) == 3
            server.until("steersman_ready 1.0")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_engine_that_stands_still_keeps_no_server_from_its_end(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, "--engines", "1", "--drain-seconds", "1") as server:
        engine = engine_of(server.process.pid)
        with waiting(server, engine) as calls:
            server.process.send_signal(signal.SIGTERM)
            assert all(call.exception() for call in calls)
            assert server.process.wait(30) == 0
        until_gone(engine)
    assert any(line["event"] == "the engine's process does not end: killed" for line in server.log)


def test_a_worker_that_loses_its_engine_is_started_again(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, "--workers", "2", "--engines", "1") as server:
        dying = server.pids()[0]
        with Load(server) as load:
            os.kill(engine_of(dying), signal.SIGKILL)
            server.until("steersman_worker_deaths_total 1.0")
            load.more()
            server.until("steersman_ready 1.0", "steersman_workers 2.0")
            load.more()
        assert not load.errors
        assert dying not in server.pids()
        engines = [engine_of(pid) for pid in server.pids()]
    for engine in engines:
        until_gone(engine)


def policies(pid: int) -> dict[int, int]:
    """How the threads of a process are scheduled."""
    found = {}
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        with suppress(ProcessLookupError):  # it has ended
            found[thread] = os.sched_getscheduler(thread)
    return found


def test_only_grpcs_threads_wait_for_a_free_core(server: Served) -> None:
    own, engine = policies(server.process.pid), policies(engine_of(server.process.pid))
    assert own[server.process.pid] == os.SCHED_OTHER
    assert os.SCHED_BATCH in own.values()
    assert set(engine.values()) == {os.SCHED_OTHER}
