"""What happens around every call: the server's own deadline, and answers that are too large to be sent."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from tests.service.telemetry.test_metrics import RECOMMEND, call, refused, scrape
from tests.serving import Running, failure, serving, settings_for

(REFUSED,) = refused("answer_too_large")


@pytest.fixture
def small(bundle_dir: Path, tmp_path: Path) -> Iterator[Running]:
    """A server that sends little at a time."""
    with serving(settings_for(tmp_path, bundle_dir, max_message_bytes=1024, max_session_events=24)) as running:
        yield running


def counted(server: Running, name: str) -> float:
    return scrape(server).get(name, 0.0)


def test_a_list_that_is_too_large_is_an_error_everywhere(small: Running) -> None:
    """For the caller, for metrics, and for the log, which has the same status and reason."""
    (handled,) = (name for name in call(RECOMMEND, "ResourceExhausted") if "handled" in name)
    before = counted(small, handled), counted(small, REFUSED)
    failed = failure(small.recommendation.Recommend, RecommendRequest(k=60))
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
    assert (failed.metadata["max_message_bytes"], failed.metadata["field"]) == ("1024", "k")
    assert int(failed.metadata["answer_bytes"]) > 1024
    assert failed.retry_seconds is None
    assert (counted(small, handled), counted(small, REFUSED)) == (before[0] + 1, before[1] + 1)
    assert len(small.recommendation.Recommend(RecommendRequest(k=5)).items) == 5


def test_a_session_that_is_too_large_can_be_read_in_part(small: Running) -> None:
    session_id = str(uuid4())
    for number in range(12):
        event = Event(event_id=str(number), item_id=f"{number}{'x' * 200}")
        small.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=[event]))
    whole = failure(small.session.GetSession, GetSessionRequest(session_id=session_id))
    assert (whole.reason, whole.metadata["field"]) == ("ANSWER_TOO_LARGE", "max_item_ids")
    session = small.session.GetSession(GetSessionRequest(session_id=session_id, max_item_ids=3)).session
    assert [item_id[:2] for item_id in session.item_ids] == ["9x", "10", "11"]
    assert session.total_events == 12


def test_an_answer_of_a_stream_that_is_too_large_is_an_error(small: Running) -> None:
    stub: Any = ServerReflectionStub(small.channel)
    wanted = "steersman.v1.RecommendationService"
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ServerReflectionInfo(iter([ServerReflectionRequest(file_containing_symbol=wanted)])))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert counted(small, REFUSED) == 1


def test_a_call_without_a_deadline_gets_the_servers(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir, default_deadline_ms=300)) as server:
        failed = failure(server.recommendation.Recommend, RecommendRequest())
        assert begun.is_set()
        assert (failed.code, failed.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED")
        assert "0.3 s" in failed.message
        (handled,) = (name for name in call(RECOMMEND, "DeadlineExceeded") if "handled" in name)
        assert counted(server, handled) == 1
        # Its caller's own goes before it.
        patient = server.recommendation.Recommend.future(RecommendRequest(), timeout=60)
        with pytest.raises(grpc.FutureTimeoutError):
            patient.result(timeout=0.5)
        go_on.set()
        assert len(patient.result().items) == 10
