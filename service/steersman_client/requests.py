"""What a recommendation is asked with: history or session, controls, filters, composition."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Literal, Self

from google.protobuf.timestamp_pb2 import Timestamp

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1 import session_service_pb2 as session_pb
from steersman_client.controls import (
    AttributeTarget,
    Controls,
    ItemsTarget,
    ids_of,
    messages_of,
    put_target,
    read_target,
)

EventKind = Literal["consumed", "disliked", "hidden", "shown"]
EVENT_KINDS: dict[EventKind, session_pb.EventKind] = {
    "consumed": session_pb.EVENT_KIND_CONSUMED,
    "disliked": session_pb.EVENT_KIND_DISLIKED,
    "hidden": session_pb.EVENT_KIND_HIDDEN,
    "shown": session_pb.EVENT_KIND_SHOWN,
}


Part = Literal["edits", "receipt", "attributes", "none"]
PARTS: dict[Part, pb.AnswerPart] = {
    "edits": pb.ANSWER_PART_EDITS,
    "receipt": pb.ANSWER_PART_RECEIPT,
    "attributes": pb.ANSWER_PART_ATTRIBUTES,
    "none": pb.ANSWER_PART_NONE,
}


@dataclass(frozen=True)
class Event:
    """Something that happened. The same `event_id` counts once in a session."""

    item_id: str
    kind: EventKind = "consumed"
    _: KW_ONLY
    event_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: datetime | None = None
    """With a time zone."""

    def message(self) -> session_pb.Event:
        event = session_pb.Event(event_id=self.event_id, item_id=self.item_id, kind=EVENT_KINDS[self.kind])
        if self.time is not None:
            event.time.CopyFrom(_timestamp(self.time))
        return event


Events = Iterable["Event | str"]
"""Events, oldest first, or ids of items that were consumed: those get event ids of their own."""


@dataclass(frozen=True)
class Filters:
    """Which items may be returned. All conditions must hold."""

    include_seen: bool = False
    allow_item_ids: Sequence[str] = ()
    deny_item_ids: Sequence[str] = ()
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Name of an attribute -> values, of which an item must have one."""

    def message(self) -> pb.Filters:
        return pb.Filters(
            include_seen=self.include_seen,
            allow_item_ids=ids_of("allow_item_ids", self.allow_item_ids),
            deny_item_ids=ids_of("deny_item_ids", self.deny_item_ids),
            attributes=[
                pb.AttributeFilter(attribute=name, any_of=ids_of(f"attributes[{name!r}]", values))
                for name, values in self.attributes.items()
            ],
        )

    @classmethod
    def of(cls, filters: pb.Filters) -> Self:
        attributes = {each.attribute: tuple(each.any_of) for each in filters.attributes}
        allowed, denied = tuple(filters.allow_item_ids), tuple(filters.deny_item_ids)
        return cls(filters.include_seen, allowed, denied, attributes)


@dataclass(frozen=True)
class LeastShare:
    """At least this share of the list, 0 to 1."""

    of: AttributeTarget | ItemsTarget
    share: float

    def message(self) -> pb.LeastShare:
        message = pb.LeastShare(share=self.share)
        put_target(message, self.of)
        return message

    @classmethod
    def of_message(cls, message: pb.LeastShare) -> Self:
        target = read_target(message, "of")
        assert isinstance(target, AttributeTarget | ItemsTarget)
        return cls(target, message.share)


@dataclass(frozen=True)
class Composition:
    """How a list is put together after scores are known."""

    diversity: float = 0.0
    """0 for scores alone, up to 1 for variety alone."""
    most_per_value: Mapping[str, int] = field(default_factory=dict)
    """Name of an attribute -> most items with each of its values."""
    pinned_item_ids: Sequence[str] = ()
    least_shares: Sequence[LeastShare] = ()

    def message(self) -> pb.Composition:
        return pb.Composition(
            diversity=self.diversity,
            most_per_value=[pb.MostPerValue(attribute=name, most=most) for name, most in self.most_per_value.items()],
            pinned_item_ids=ids_of("pinned_item_ids", self.pinned_item_ids),
            least_shares=[share.message() for share in self.least_shares],
        )

    @classmethod
    def of(cls, message: pb.Composition) -> Self:
        most = {each.attribute: each.most for each in message.most_per_value}
        shares = tuple(map(LeastShare.of_message, message.least_shares))
        return cls(message.diversity, most, tuple(message.pinned_item_ids), shares)


@dataclass(frozen=True)
class Request:
    """What Recommend is asked. The fields are the arguments of `recommend`."""

    history: Sequence[str] | None = None
    """Ids of items, oldest first. Not beside session_id."""
    _: KW_ONLY
    controls: Controls = ()
    """{"genres:Horror": 0.8}, or a list of what `concept`, `feature`, `tilt`, `items` and `words` make."""
    k: int = 10
    filters: Filters | None = None
    events_before: int = 0
    """Events before the first one of `history`, or of `fallback_history`, that are not sent."""
    session_id: str = ""
    fallback_history: Sequence[str] | None = None
    """Used where the session cannot be read."""
    new_events: Events = ()
    """Appended to the session first."""
    min_session_version: int = 0
    scenario: str = ""
    composition: Composition | None = None
    receipt: bool = False
    """Adds what steering did to the list. A goal brings it anyway."""
    ignore_dislikes: bool = False
    request_id: str = ""
    parts: Sequence[Part] = ()
    """Those of the answer that are wanted, and no others. Empty: edits, and the receipt where it is asked for or a control has a goal."""

    def message(self) -> pb.RecommendRequest:
        """Raises TypeError for ids or controls that are not what they should be."""
        message = pb.RecommendRequest(
            controls=messages_of(self.controls),
            k=self.k,
            session_id=self.session_id,
            new_events=event_messages(self.new_events),
            min_session_version=self.min_session_version,
            scenario=self.scenario,
            receipt=self.receipt,
            ignore_dislikes=self.ignore_dislikes,
            request_id=self.request_id,
            parts=[_part(part) for part in self.parts],
        )
        if self.history is not None:
            message.history.CopyFrom(self._history("history", self.history))
        if self.fallback_history is not None:
            message.fallback_history.CopyFrom(self._history("fallback_history", self.fallback_history))
        if self.filters is not None:
            message.filters.CopyFrom(self.filters.message())
        if self.composition is not None:
            message.composition.CopyFrom(self.composition.message())
        return message

    def _history(self, field: str, item_ids: Sequence[str]) -> pb.History:
        return pb.History(item_ids=ids_of(field, item_ids), events_before=self.events_before)


def with_receipt(parts: Sequence[Part], wanted: bool) -> Sequence[Part]:
    """`parts` with the receipt or without it; none still stands for the usual ones."""
    others: Sequence[Part] = [part for part in parts if part not in ("receipt", "none")]
    if not parts:
        return parts
    return [*others, "receipt"] if wanted else others or ["none"]


def _part(part: Part) -> pb.AnswerPart:
    if part not in PARTS:
        raise ValueError(f"parts: {part!r} is none; known: {', '.join(PARTS)}")
    return PARTS[part]


def event_messages(events: Events) -> list[session_pb.Event]:
    if isinstance(events, str | Event):
        raise TypeError("events: give a list of events, or of ids of items")
    return [(Event(event) if isinstance(event, str) else event).message() for event in events]


def _timestamp(time: datetime) -> Timestamp:
    if time.tzinfo is None:
        raise ValueError(f"time: {time} has no time zone; datetime.now(UTC) has one")
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
