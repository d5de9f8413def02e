"""When something counts as standing still; what happens then: tests/e2e/test_serve_stalled.py."""

import os
import threading
from pathlib import Path

import grpc

from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.scheduling.stall import COMPUTING_WEIGHT, TICK_SECONDS, StallClock, cpu_of_process, cpu_of_thread
from tests.service.test_server import watch
from tests.serving import explain, failure, serving, settings_for


class Clock:
    """Time and processor time of somebody else, set by hand."""

    def __init__(self, limit_seconds: float) -> None:
        self.now = self.cpu = 0.0
        self.stall = StallClock(limit_seconds, lambda: self.cpu, lambda: self.now)

    def ticks(self, count: int, progress: object, seconds: float = TICK_SECONDS, cpu: float = 0.0) -> bool:
        """Whether it has stalled after so many questions."""
        stalled = False
        for _ in range(count):
            self.now += seconds
            self.cpu += cpu
            stalled = self.stall.stalled(progress)
        return stalled


def test_no_progress_for_the_limit_is_a_stall() -> None:
    clock = Clock(10.0)
    assert not clock.ticks(20, progress=1)
    assert clock.ticks(1, progress=1)


def test_any_progress_begins_anew_and_so_does_having_nothing_to_do() -> None:
    clock = Clock(10.0)
    for progress in (1, 2, None, 2, None):
        assert not clock.ticks(20, progress)


def test_time_in_which_it_was_not_asked_counts_little() -> None:
    """Whoever asks was stopped, or starved, itself: that says nothing about the other."""
    clock = Clock(10.0)
    assert not clock.ticks(2, progress=1, seconds=3600.0)
    assert not clock.ticks(8, progress=1, seconds=3600.0)
    assert clock.ticks(1, progress=1, seconds=3600.0)


def test_who_computes_may_take_longer() -> None:
    clock = Clock(10.0)
    longer = round(20 / COMPUTING_WEIGHT)
    assert not clock.ticks(longer, progress=1, cpu=0.01)
    assert clock.ticks(1, progress=1, cpu=0.01)


def test_there_is_a_limit_that_is_none() -> None:
    assert not Clock(float("inf")).ticks(10_000, progress=1)


def test_processor_time_grows_with_work() -> None:
    of_process, of_thread = cpu_of_process(os.getpid()), cpu_of_thread(threading.get_ident())
    before = of_thread()
    while cpu_of_process(os.getpid()) <= of_process:
        pass
    assert of_thread() > before
    assert cpu_of_process(2**30) == 0.0


def test_an_engine_in_a_thread_that_stands_still_is_given_up(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir, stall_seconds=1.0)) as server:
        statuses = watch(server.channel, "")
        next(statuses)
        calls = [server.recommendation.Recommend.future(RecommendRequest(), timeout=60) for _ in range(3)]
        begun.wait()
        for call in calls:
            failed = explain(call.exception())
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
            assert failed.retry_seconds
        assert server.ports.engine_lost.is_set()
        assert failure(server.recommendation.Recommend, RecommendRequest()).reason == "ENGINE_LOST"
        # Nobody waits for it at the end either; here the thread is let go, to end with the test.
        server.stop()
        go_on.set()
