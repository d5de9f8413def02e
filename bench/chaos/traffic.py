"""What clients ask, and a ledger of the events that they were told are kept."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.message import Message

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    AppendEventsResponse,
    Event,
    GetSessionRequest,
    GetSessionResponse,
)

RECOMMEND = "/steersman.v1.RecommendationService/Recommend"
APPEND = "/steersman.v1.SessionService/AppendEvents"
READ = "/steersman.v1.SessionService/GetSession"
ANSWERS: Mapping[str, type[Message]] = {
    RECOMMEND: RecommendResponse,
    APPEND: AppendEventsResponse,
    READ: GetSessionResponse,
}
SCENARIO = "chaos"
# Kind of request -> its share.
MIX = {"visit": 0.35, "append": 0.2, "session": 0.1, "stateless": 0.15, "steered": 0.1, "scenario": 0.1}
HISTORY_EVENTS = 12
# Far below what a session keeps, so that every event can be found at the end.
MOST_EVENTS = 400
ITEMS = 10


@dataclass
class SessionLedger:
    """One session: what was sent, and what was acknowledged. No item is sent twice, so that an item names its event."""

    name: str
    items: Sequence[str]
    sent: int = 0
    acknowledged: set[str] = field(default_factory=set)
    """Items."""
    unsure: list[Event] = field(default_factory=list)
    """Sent without being acknowledged: they are sent again with the next."""

    def next_events(self) -> list[Event]:
        event = Event(event_id=f"{self.name}-{self.sent}", item_id=self.items[self.sent])
        self.sent += 1
        again, self.unsure = self.unsure, []
        return [*again, event]


class Call(NamedTuple):
    kind: str
    method: str
    """ "/package.Service/Method" """
    request: Message
    session: SessionLedger | None = None
    events: Sequence[Event] = ()


class Traffic:
    """Requests at random, the same for the same seed."""

    def __init__(
        self,
        item_ids: Sequence[str],
        concepts: Sequence[str],
        *,
        sessions: int,
        seed: int,
        name: str,
        events: int = MOST_EVENTS,
    ) -> None:
        """`name` begins the ids of sessions. So many sessions are current; one that has sent `events` is followed by a new one."""
        self._events = events
        self._rng = random.Random(seed)
        self._item_ids, self._concepts, self._name = [*item_ids], [*concepts], name
        self.sessions: list[SessionLedger] = []
        """All there ever were."""
        self._current = [self._new_session() for _ in range(sessions)]
        self.marks: dict[str, str] = {}
        """Version of a bundle -> how each title of its items ends, where bundles differ in that."""
        self.bundles: set[str] = set()
        """Versions that have answered."""
        self.mixed = 0
        """Answers whose titles are not those of the bundle that they name."""

    def next(self) -> Call:
        kind = self._rng.choices([*MIX], [*MIX.values()])[0]
        if kind in ("visit", "append", "session"):
            return self._of_session(kind)
        controls = [Control(concept=self._rng.choice(self._concepts), operation=OPERATION_ADD, strength=0.5)]
        request = RecommendRequest(
            history=self._history(),
            k=ITEMS,
            controls=controls if kind == "steered" else [],
            scenario=SCENARIO if kind == "scenario" else "",
        )
        return Call(kind, RECOMMEND, request)

    def answered(self, call: Call, answer: Any) -> bool:
        """Notes what it acknowledges. Returns whether it is the whole of what was asked for, and not degraded."""
        whole = not getattr(answer, "degradations", None)
        if call.session is not None:
            if whole:
                call.session.acknowledged.update(event.item_id for event in call.events)
            else:
                call.session.unsure.extend(call.events)
        version = getattr(answer, "bundle_version", "")
        self.bundles.add(version)
        if (mark := self.marks.get(version)) is not None:
            self.mixed += any(not item.title.endswith(mark) for item in answer.items)
        return whole

    def failed(self, call: Call) -> None:
        if call.session is not None:
            call.session.unsure.extend(call.events)

    def _of_session(self, kind: str) -> Call:
        place = self._rng.randrange(len(self._current))
        session = self._current[place]
        if kind == "session":
            return Call(kind, RECOMMEND, RecommendRequest(session_id=session.name, k=ITEMS), session)
        events = session.next_events()
        if session.sent >= self._events:
            self._current[place] = self._new_session()
        if kind == "append":
            return Call(kind, APPEND, AppendEventsRequest(session_id=session.name, events=events), session, events)
        fallback = self._history() if self._rng.random() < 0.5 else None
        request = RecommendRequest(session_id=session.name, new_events=events, fallback_history=fallback, k=ITEMS)
        return Call(kind, RECOMMEND, request, session, events)

    def _new_session(self) -> SessionLedger:
        items = self._rng.sample(self._item_ids, min(self._events, len(self._item_ids)))
        session = SessionLedger(f"{self._name}-{len(self.sessions)}", items)
        self.sessions.append(session)
        return session

    def _history(self) -> History:
        return History(item_ids=self._rng.sample(self._item_ids, HISTORY_EVENTS))


def read_request(session: SessionLedger) -> Call:
    return Call("audit", READ, GetSessionRequest(session_id=session.name))
