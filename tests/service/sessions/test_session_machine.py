"""Any sequence of calls on a session, over gRPC and a real store, against a model of it."""

import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis import Redis

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.session_service_pb2 import (
    EVENT_KIND_CONSUMED,
    EVENT_KIND_DISLIKED,
    EVENT_KIND_HIDDEN,
    EVENT_KIND_SHOWN,
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman_service.bundle.items import Items
from steersman_service.sessions.store import PARTS
from steersman_service.sessions.valkey import EmbeddedValkey
from tests.serving import Running, serving, settings_for

# Kept by the session: as few as the bundle's window allows, so that old ones go.
KEPT = 20
KINDS = (EVENT_KIND_CONSUMED, EVENT_KIND_CONSUMED, EVENT_KIND_DISLIKED, EVENT_KIND_HIDDEN, EVENT_KIND_SHOWN)
SESSIONS = count()
CONTROLS = tuple(Control(concept=f"genres:{name}", operation=OPERATION_ADD, strength=0.5) for name in ("Horror", "War"))


class Kept(NamedTuple):
    server: Running
    store: Any
    """A client of its store."""


@pytest.fixture(scope="module")
def kept(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    valkey = EmbeddedValkey.start(folder / "valkey")
    try:
        settings = settings_for(folder, bundle_dir, max_session_events=KEPT, redis_url=valkey.url)
        with Redis.from_url(valkey.url) as store, serving(settings) as running:
            yield Kept(running, store)
    finally:
        valkey.stop()


class SessionMachine(RuleBasedStateMachine):
    """What a session should hold: ids seen, items in order, refused items, controls, its version."""

    server: Running
    store: Any
    item_ids: Sequence[str]

    @initialize()
    def begin(self) -> None:
        self.session_id = f"machine-{next(SESSIONS)}"
        self.forget()

    def forget(self) -> None:
        self.there = False
        self.version, self.total = 0, 0
        self.seen: set[str] = set()
        self.items: list[str] = []
        self.refused: dict[str, int] = {}
        self.controls: list[Control] = []

    def appended(self, events: Sequence[Event]) -> int:
        """How many of them are new. The model takes them."""
        new = 0
        for event in events:
            if event.event_id in self.seen:
                continue
            self.seen.add(event.event_id)
            new += 1
            if event.kind == EVENT_KIND_CONSUMED:
                self.total += 1
                self.items = [*self.items, event.item_id][-KEPT:]
                self.refused.pop(event.item_id, None)
            elif event.kind != EVENT_KIND_SHOWN:
                self.refused.pop(event.item_id, None)
                self.refused[event.item_id] = event.kind
        if new:
            self.version += 1
            self.there = True
        return new

    def events(self, drawn: Sequence[tuple[int, int, int]]) -> list[Event]:
        """Few ids, so that some come again; an id is always of the same event."""
        return [
            Event(
                event_id=f"e{place}-{kind}",
                item_id=self.item_ids[(place * 7 + kind) % len(self.item_ids)],
                kind=KINDS[kind],
            )
            for place, kind, _ in drawn
        ]

    drawn = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.just(0)), min_size=1, max_size=4)

    @rule(drawn=drawn)
    def append(self, drawn: Sequence[tuple[int, int, int]]) -> None:
        events = self.events(drawn)
        answer = self.server.session.AppendEvents(AppendEventsRequest(session_id=self.session_id, events=events))
        new = self.appended(events)
        assert (answer.appended, answer.duplicates) == (new, len(events) - new)
        assert (answer.session_version, answer.total_events) == (self.version, self.total)

    @rule(drawn=st.one_of(st.just([]), drawn), controls=st.booleans())
    def recommend(self, drawn: Sequence[tuple[int, int, int]], controls: bool) -> None:
        events, before = self.events(drawn), self.version
        request = RecommendRequest(
            session_id=self.session_id,
            new_events=events,
            k=60,
            controls=CONTROLS[:1] if controls else [],
            min_session_version=before,
        )
        was_there = self.there
        answer = self.server.recommendation.Recommend(request)
        self.appended(events)
        assert (answer.session_version, answer.history_use.total_events) == (self.version, self.total)
        assert answer.history_use.new_session == (not was_there)
        assert not answer.degradations
        returned = {item.item_id for item in answer.items}
        assert not returned & {*self.items, *self.refused}

    @rule(which=st.lists(st.sampled_from(CONTROLS), max_size=2))
    def set_controls(self, which: list[Control]) -> None:
        answer = self.server.session.SetControls(SetControlsRequest(session_id=self.session_id, controls=which))
        self.version += not self.there or self.controls != which
        self.controls, self.there = which, True
        assert answer.session_version == self.version

    @rule()
    def delete(self) -> None:
        answer = self.server.session.DeleteSession(DeleteSessionRequest(session_id=self.session_id))
        assert answer.existed == self.there
        self.forget()

    @rule(parts=st.sampled_from((PARTS, PARTS[:1])))
    def expire(self, parts: Sequence[str]) -> None:
        """All of it, or `meta` alone, as by a store that evicts: what is left is nobody's."""
        for part in parts:
            self.store.pexpire(self.key(part), 1)
        while self.store.exists(*map(self.key, parts)):
            time.sleep(0.001)
        self.forget()

    def key(self, part: str) -> str:
        return f"steersman:{{{self.session_id}}}:{part}"

    @rule(ahead=st.integers(1, 3))
    def ask_for_more_than_there_is(self, ahead: int) -> None:
        request = RecommendRequest(session_id=self.session_id, min_session_version=self.version + ahead)
        with pytest.raises(grpc.RpcError) as caught:
            self.server.recommendation.Recommend(request)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        request.fallback_history.item_ids.append(self.item_ids[0])
        assert self.server.recommendation.Recommend(request).degradations

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        if not hasattr(self, "session_id"):
            return
        try:
            session = self.server.session.GetSession(GetSessionRequest(session_id=self.session_id)).session
        except grpc.RpcError:
            assert not self.there
            return
        assert self.there
        left = [self.store.pttl(self.key(part)) for part in PARTS]
        assert -1 not in left, "a key would stay when the session has expired"
        assert (session.version, session.total_events) == (self.version, self.total)
        assert list(session.item_ids) == self.items
        assert list(session.controls) == self.controls
        told = {EVENT_KIND_DISLIKED: session.disliked_item_ids, EVENT_KIND_HIDDEN: session.hidden_item_ids}
        for kind, item_ids in told.items():
            assert list(item_ids) == [item_id for item_id, refused in self.refused.items() if refused == kind]


def test_a_session_is_what_was_done_to_it(kept: Kept, items: Items) -> None:
    machine = type("Machine", (SessionMachine,), {**kept._asdict(), "item_ids": items.ids[:30]})
    bounded = settings(
        max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=bounded)
