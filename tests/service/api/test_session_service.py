"""The SessionService over gRPC: what it keeps, and what it refuses."""

from typing import Any
from uuid import uuid4

import grpc
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from tests.serving import Failure, Running, failure

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


@pytest.fixture
def session_id() -> str:
    return f"test-{uuid4()}"


def events(*numbers: int) -> list[Event]:
    return [Event(event_id=f"e{n}", item_id=f"i{n}") for n in numbers]


def wrong(call: Any, request: Any) -> Failure:
    failed = failure(call, request)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    return failed


def test_the_life_of_a_session(server: Running, session_id: str) -> None:
    first = server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events(1, 2)))
    assert (first.appended, first.duplicates, first.session_version, first.total_events) == (2, 0, 1, 2)
    again = server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events(2, 3)))
    assert (again.appended, again.duplicates, again.total_events) == (1, 1, 3)
    set_controls = server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[HORROR]))
    session = server.session.GetSession(GetSessionRequest(session_id=session_id)).session
    assert session.version == set_controls.session_version == 3
    assert list(session.item_ids) == ["i1", "i2", "i3"]
    assert list(session.controls) == [HORROR]
    assert 30 * 86400 - 60 < session.time_to_live.ToSeconds() <= 30 * 86400
    server.session.SetControls(SetControlsRequest(session_id=session_id))
    assert not server.session.GetSession(GetSessionRequest(session_id=session_id)).session.controls
    assert server.session.DeleteSession(DeleteSessionRequest(session_id=session_id)).existed
    assert not server.session.DeleteSession(DeleteSessionRequest(session_id=session_id)).existed
    missing = failure(server.session.GetSession, GetSessionRequest(session_id=session_id))
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


def test_old_events_are_dropped_and_counted(server: Running, session_id: str) -> None:
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events(*range(40))))
    session = server.session.GetSession(GetSessionRequest(session_id=session_id)).session
    assert session.total_events == 40
    assert list(session.item_ids) == [f"i{n}" for n in range(16, 40)]


@pytest.mark.parametrize("bad", ["", " ", "a b", "x" * 129, "ä", "a/b", "a\x00", "{a}"])
def test_session_ids_that_are_refused_everywhere(server: Running, bad: str) -> None:
    stub = server.session
    for call, request in (
        (stub.AppendEvents, AppendEventsRequest(session_id=bad, events=events(1))),
        (stub.GetSession, GetSessionRequest(session_id=bad)),
        (stub.SetControls, SetControlsRequest(session_id=bad)),
        (stub.DeleteSession, DeleteSessionRequest(session_id=bad)),
    ):
        assert wrong(call, request).fields.keys() == {"session_id"}


def test_events_that_are_refused_leave_nothing_behind(server: Running, session_id: str) -> None:
    cases = {
        "events": [],
        "events[0].event_id": [Event(item_id="i")],
        "events[1].event_id": [*events(1), Event(event_id="é" * 65, item_id="i")],
        "events[0].item_id": [Event(event_id="e")],
        "events[2].item_id": [*events(1, 2), Event(event_id="e", item_id="x" * 257)],
    }
    for field, given in cases.items():
        failed = wrong(server.session.AppendEvents, AppendEventsRequest(session_id=session_id, events=given))
        assert failed.fields.keys() == {field}
    many = AppendEventsRequest(session_id=session_id, events=events(*range(1001)))
    assert wrong(server.session.AppendEvents, many).fields.keys() == {"events"}
    assert (
        failure(server.session.GetSession, GetSessionRequest(session_id=session_id)).code is grpc.StatusCode.NOT_FOUND
    )


def test_controls_that_are_refused_leave_the_old_ones(server: Running, session_id: str) -> None:
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[HORROR]))
    endless = Control(concept=HORROR.concept, operation=OPERATION_ADD, strength=float("inf"))
    failed = wrong(server.session.SetControls, SetControlsRequest(session_id=session_id, controls=[HORROR, endless]))
    assert failed.fields.keys() == {"controls[1].strength"}
    many = SetControlsRequest(session_id=session_id, controls=[HORROR] * 33)
    assert wrong(server.session.SetControls, many).fields.keys() == {"controls"}
    stale = Control(feature=FeatureRef(id=1, bundle_version="f" * 64), operation=OPERATION_ADD)
    failed = failure(server.session.SetControls, SetControlsRequest(session_id=session_id, controls=[stale]))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert list(server.session.GetSession(GetSessionRequest(session_id=session_id)).session.controls) == [HORROR]
