"""A store that holds less of a session than its caller has seen: a replica that lags, a failover, a session that was forgotten."""

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from redis import Redis

from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.recommendation_service_pb2 import (
    DEGRADATION_SESSION_BEHIND,
    DEGRADATION_SESSION_UNAVAILABLE,
    History,
    RecommendRequest,
)
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from steersman_service.sessions.valkey import EmbeddedValkey
from tests.serving import Running, failure, serving, settings_for


class Stored(NamedTuple):
    """A server, and its store for who wants to do it harm."""

    server: Running
    redis: Redis


@pytest.fixture
def stored(bundle_dir: Path, tmp_path: Path) -> Iterator[Stored]:
    store = EmbeddedValkey.start(tmp_path / "store")
    try:
        settings = settings_for(tmp_path, bundle_dir, redis_url=store.url, max_session_events=24)
        with serving(settings) as server, Redis.from_url(store.url) as redis:
            yield Stored(server, redis)
    finally:
        store.stop()


def events(*numbers: int) -> list[Event]:
    return [Event(event_id=f"e{number}", item_id=str(number)) for number in numbers]


def new_sessions(server: Running) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        lines = response.read().decode().splitlines()
    name = "steersman_recommendations_new_session_total "
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_session_that_the_store_does_not_hold_is_marked_as_new(stored: Stored) -> None:
    recommend = stored.server.recommendation.Recommend
    assert recommend(RecommendRequest(session_id="s")).history_use.new_session
    assert recommend(RecommendRequest(session_id="s", new_events=events(1))).history_use.new_session
    for again in (RecommendRequest(session_id="s", new_events=events(1)), RecommendRequest(session_id="s")):
        assert not recommend(again).history_use.new_session
    assert not recommend(RecommendRequest()).history_use.new_session
    stored.redis.flushall()
    assert recommend(RecommendRequest(session_id="s", new_events=events(2))).history_use.new_session
    assert new_sessions(stored.server) == 3


def test_a_session_behind_what_the_caller_has_seen_is_not_a_new_user(stored: Stored) -> None:
    recommend = stored.server.recommendation.Recommend
    seen = recommend(RecommendRequest(session_id="s", new_events=events(1, 2))).session_version
    assert recommend(RecommendRequest(session_id="s", min_session_version=seen)).session_version == seen
    stored.redis.flushall()
    request = RecommendRequest(session_id="s", min_session_version=seen)
    failed = failure(recommend, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_BEHIND")
    assert failed.retry_seconds
    assert failed.metadata["session_version"] == "0"
    request.fallback_history.CopyFrom(History(item_ids=["1", "2"]))
    answer = recommend(request)
    assert list(answer.degradations) == [DEGRADATION_SESSION_BEHIND]
    assert answer.history_use.total_events == 2
    # Nothing is wrong with what the store has, for who asks for no more.
    assert not recommend(RecommendRequest(session_id="s")).degradations
    failed = failure(recommend, RecommendRequest(min_session_version=1))
    assert failed.fields.keys() == {"min_session_version"}


def test_a_replica_cannot_say_that_there_is_no_session(stored: Stored) -> None:
    stored.redis.replicaof("127.0.0.1", 1)  # of a primary that it does not reach
    recommend = stored.server.recommendation.Recommend
    for call, request in (
        (recommend, RecommendRequest(session_id="s")),
        (stored.server.session.GetSession, GetSessionRequest(session_id="s")),
    ):
        failed = failure(call, request)
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_STORE_UNAVAILABLE")
    answer = recommend(RecommendRequest(session_id="s", fallback_history=History()))
    assert list(answer.degradations) == [DEGRADATION_SESSION_UNAVAILABLE]


def test_an_event_is_known_for_as_long_as_the_limits_say(stored: Stored) -> None:
    limits = stored.server.model.GetModelInfo(GetModelInfoRequest()).limits
    assert limits.remembered_event_ids == 48

    def append(*numbers: int) -> int:
        request = AppendEventsRequest(session_id="s", events=events(*numbers))
        return stored.server.session.AppendEvents(request).appended

    append(0)
    assert append(*range(1, limits.remembered_event_ids)) == limits.remembered_event_ids - 1
    assert append(0) == 0
    append(limits.remembered_event_ids)
    assert append(0) == 1


def test_a_store_that_hangs_leaves_time_for_the_fallback(bundle_dir: Path, tmp_path: Path) -> None:
    """By the call's own deadline, long before the store's limit."""
    store = EmbeddedValkey.start(tmp_path / "store")
    settings = settings_for(tmp_path, bundle_dir, redis_url=store.url, redis_timeout_seconds=600)
    try:
        with serving(settings) as server:
            server.recommendation.Recommend(RecommendRequest(session_id="s", new_events=events(1)))
            request = RecommendRequest(session_id="s", fallback_history=History(item_ids=["101"]))
            os.kill(store.pid, signal.SIGSTOP)
            try:
                answer = server.recommendation.Recommend(request, timeout=4)
                assert answer.degradations == [DEGRADATION_SESSION_UNAVAILABLE]
                failed = failure(server.session.GetSession, GetSessionRequest(session_id="s"), timeout=1)
                assert failed.reason == "SESSION_STORE_UNAVAILABLE"
            finally:
                os.kill(store.pid, signal.SIGCONT)
            assert not server.recommendation.Recommend(request).degradations
    finally:
        store.stop()
