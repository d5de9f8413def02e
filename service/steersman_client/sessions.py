"""Answers of SessionService."""

from dataclasses import dataclass
from typing import Self

from steersman.v1 import session_service_pb2 as pb
from steersman_client.controls import Control


@dataclass(frozen=True)
class AppendResult:
    """What became of events."""

    appended: int
    duplicates: int
    """Left out, as their ids were known."""
    session_version: int
    total_events: int

    @classmethod
    def of(cls, message: pb.AppendEventsResponse) -> Self:
        return cls(message.appended, message.duplicates, message.session_version, message.total_events)


@dataclass(frozen=True)
class Session:
    """What is kept of a user."""

    session_id: str
    version: int
    total_events: int
    item_ids: tuple[str, ...]
    """Of the latest events, oldest first."""
    controls: tuple[Control, ...]
    seconds_to_live: float
    disliked_item_ids: tuple[str, ...]
    hidden_item_ids: tuple[str, ...]

    @classmethod
    def of(cls, message: pb.Session) -> Self:
        return cls(
            session_id=message.session_id,
            version=message.version,
            total_events=message.total_events,
            item_ids=tuple(message.item_ids),
            controls=tuple(map(Control.of, message.controls)),
            seconds_to_live=message.time_to_live.ToNanoseconds() / 1e9,
            disliked_item_ids=tuple(message.disliked_item_ids),
            hidden_item_ids=tuple(message.hidden_item_ids),
        )
