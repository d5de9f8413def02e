"""Disliked, hidden and shown events, over gRPC."""

import urllib.request
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from steersman.v1.control_pb2 import CONTROL_SOURCE_DISLIKED, OPERATION_ADD, Control, ItemSet
from steersman.v1.recommendation_service_pb2 import Filters, History, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import (
    EVENT_KIND_CONSUMED,
    EVENT_KIND_DISLIKED,
    EVENT_KIND_HIDDEN,
    EVENT_KIND_SHOWN,
    AppendEventsRequest,
    Event,
    EventKind,
    GetSessionRequest,
    Session,
)
from steersman_service.bundle.items import Items
from steersman_service.errors import FieldViolation, StoreUnavailable
from steersman_service.sessions.store import SessionStore
from steersman_service.steering.dislikes import MOST_ITEMS, less_like
from steersman_service.steering.targets import Resolution, Targets
from tests.serving import Running, failure


def event(item_id: str, kind: EventKind = EVENT_KIND_CONSUMED) -> Event:
    return Event(event_id=uuid4().hex, item_id=item_id, kind=kind)


def ask(server: Running, **fields: Any) -> RecommendResponse:
    return server.recommendation.Recommend(RecommendRequest(**fields))


def ids(response: RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


def append(server: Running, session_id: str, *events: Event) -> None:
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events))


def get(server: Running, session_id: str) -> Session:
    return server.session.GetSession(GetSessionRequest(session_id=session_id)).session


def test_what_is_disliked_or_hidden_is_never_recommended_and_is_no_history(server: Running, items: Items) -> None:
    session_id, history = str(uuid4()), items.ids[:4]
    append(server, session_id, *map(event, history))
    plain = ask(server, session_id=session_id, k=10)
    disliked, hidden = ids(plain)[:2]
    said = [
        event(disliked, EVENT_KIND_DISLIKED),
        event(hidden, EVENT_KIND_HIDDEN),
        event(ids(plain)[2], EVENT_KIND_SHOWN),
    ]
    for fields in ({"new_events": said}, {}, {"filters": Filters(include_seen=True)}, {"ignore_dislikes": True}):
        answer = ask(server, session_id=session_id, k=60, **fields)
        assert not {disliked, hidden} & set(ids(answer))
        assert (answer.history_use.total_events, answer.history_use.used_events) == (4, 4)
    answer = ask(server, session_id=session_id, k=8, ignore_dislikes=True)
    assert ids(answer) == ids(plain)[2:]
    assert answer.eligible_items == len(items) - 6
    kept = get(server, session_id)
    assert (list(kept.disliked_item_ids), list(kept.hidden_item_ids)) == ([disliked], [hidden])
    assert list(kept.item_ids) == history
    # Consumed later, it is part of the history, and no longer disliked.
    append(server, session_id, event(disliked))
    assert disliked in ids(ask(server, session_id=session_id, k=60, filters=Filters(include_seen=True)))
    assert not get(server, session_id).disliked_item_ids


def test_the_same_history_gives_the_same_list_whatever_was_shown(server: Running, items: Items) -> None:
    """Not even the window's place moves."""
    history = [items.ids[n % 60] for n in range(23)]
    one, other = str(uuid4()), str(uuid4())
    append(server, one, *map(event, history))
    for item_id in history:
        append(server, other, event(item_id), event(items.ids[50], EVENT_KIND_SHOWN))
    assert ask(server, session_id=one).items == ask(server, session_id=other).items
    assert ids(ask(server, session_id=one)) == ids(ask(server, history=History(item_ids=history)))


def test_a_session_may_begin_with_a_dislike(server: Running, items: Items) -> None:
    session_id = str(uuid4())
    popular = ids(ask(server, k=1))[0]
    answer = ask(server, session_id=session_id, new_events=[event(popular, EVENT_KIND_DISLIKED)], k=60)
    assert popular not in ids(answer)
    assert answer.history_use.new_session
    assert answer.history_use.empty
    assert answer.session_version == 1


def test_a_degraded_answer_leaves_out_what_the_request_says(
    server: Running, items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*arguments: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(SessionStore, "visit", away)
    history = History(item_ids=items.ids[:4])
    plain = ask(server, history=history, k=3)
    said = [event(ids(plain)[0], EVENT_KIND_HIDDEN), event(ids(plain)[1], EVENT_KIND_SHOWN)]
    answer = ask(server, session_id="s", fallback_history=history, new_events=said, k=2, ignore_dislikes=True)
    assert answer.degradations
    assert ids(answer) == ids(plain)[1:]
    assert answer.history_use.total_events == 4


def test_wrong_kinds_and_times(server: Running) -> None:
    times = [
        Timestamp(seconds=1 << 40),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
        Timestamp(seconds=-(1 << 40)),
    ]
    wrong = [Event(event_id="1", item_id="1", time=time) for time in times]
    failed = failure(server.session.AppendEvents, AppendEventsRequest(session_id="s", events=wrong))
    assert failed.fields.keys() == {f"events[{n}].time" for n in range(4)}
    assert "years 1 and 9999" in failed.fields["events[0].time"]
    unknown: Any = 99
    request = RecommendRequest(session_id="s", new_events=[Event(event_id="1", item_id="1", kind=unknown)])
    failed = failure(server.recommendation.Recommend, request)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "EVENT_KIND_SHOWN" in failed.fields["new_events[0].kind"]
    edge = Event(event_id="1", item_id="1", time=Timestamp(seconds=-62_135_596_800), kind=EVENT_KIND_SHOWN)
    append(server, str(uuid4()), edge)


def feedback(server: Running, kind: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        text = response.read().decode()
    name = f'steersman_session_feedback_total{{kind="{kind}"}} '
    return float(next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name))


def test_new_events_are_counted_by_kind(server: Running) -> None:
    before = {kind: feedback(server, kind) for kind in ("disliked", "hidden", "shown")}
    said = [event("1", EVENT_KIND_SHOWN), event("2", EVENT_KIND_SHOWN), event("2", EVENT_KIND_DISLIKED), event("3")]
    for _ in range(2):
        append(server, "counted", *said)
    after = {kind: feedback(server, kind) - count for kind, count in before.items()}
    assert after == {"disliked": 1, "hidden": 0, "shown": 2}


def test_less_like_the_newest_ones(items: Items) -> None:
    rows = items.rows(items.ids[:30])
    (control,) = less_like(rows, items, 0.25)
    newest = ItemSet(item_ids=items.ids[30 - MOST_ITEMS : 30])
    assert control == Control(items=newest, operation=OPERATION_ADD, strength=-0.25)
    assert less_like(rows, items, 0.0) == less_like(rows[:0], items, 0.25) == []


def test_dislikes_are_answered_for_unless_the_request_ignores_them(server: Running, items: Items) -> None:
    session_id = str(uuid4())
    said = [event(items.ids[0], EVENT_KIND_HIDDEN), event("nowhere", EVENT_KIND_DISLIKED)]
    answer = ask(server, session_id=session_id, new_events=[*said, event(items.ids[1], EVENT_KIND_DISLIKED)])
    (applied,) = answer.applied_controls
    assert applied.source == CONTROL_SOURCE_DISLIKED
    assert applied.control == Control(items=ItemSet(item_ids=items.ids[:2]), operation=OPERATION_ADD, strength=-0.25)
    assert applied.edits
    assert not ask(server, session_id=session_id, ignore_dislikes=True).applied_controls
    assert not ask(server, session_id=str(uuid4()), new_events=[event(items.ids[0])]).applied_controls


def test_dislikes_that_no_feature_turns_down_refuse_nothing(
    server: Running, items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = FieldViolation(".items", "no feature raises these alone")
    monkeypatch.setattr(Targets, "resolve", lambda targets, control: Resolution(problems=(problem,)))
    disliked = event(items.ids[3], EVENT_KIND_DISLIKED)
    answer = ask(server, session_id=str(uuid4()), new_events=[disliked])
    assert answer.items
    assert not answer.applied_controls
