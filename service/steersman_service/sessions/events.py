"""Events of a session as the store takes them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from steersman.v1.session_service_pb2 import (
    EVENT_KIND_CONSUMED,
    EVENT_KIND_DISLIKED,
    EVENT_KIND_HIDDEN,
    EVENT_KIND_SHOWN,
    EVENT_KIND_UNSPECIFIED,
    Event,
)

Events = Sequence[tuple[str, str]]
"""Event id and item id of each, oldest first."""

CONSUMED, DISLIKED, HIDDEN, SHOWN = LETTERS = "cdhs"
LETTER_OF = {
    EVENT_KIND_UNSPECIFIED: CONSUMED,
    EVENT_KIND_CONSUMED: CONSUMED,
    EVENT_KIND_DISLIKED: DISLIKED,
    EVENT_KIND_HIDDEN: HIDDEN,
    EVENT_KIND_SHOWN: SHOWN,
}


class Kinds(NamedTuple):
    """What events say beside their ids, where not all of them are consumed."""

    letters: str
    """CONSUMED, DISLIKED, HIDDEN or SHOWN, for each event."""
    times_ms: Sequence[int]
    """When each happened, in milliseconds of Unix time; 0: not said."""

    def items(self, events: Events, letters: str) -> Iterator[str]:
        """Item ids of those of `events` that are of one of the kinds `letters`."""
        return (item_id for (_, item_id), letter in zip(events, self.letters, strict=True) if letter in letters)


def kinds_of(events: Sequence[Event]) -> Kinds | None:
    """Of checked `events`. None: all are consumed, and there is nothing more to say."""
    if all(event.kind <= EVENT_KIND_CONSUMED for event in events):
        return None
    times_ms = [event.time.ToMilliseconds() if event.HasField("time") else 0 for event in events]
    return Kinds("".join(LETTER_OF[event.kind] for event in events), times_ms)
