"""Events of a session as typed on the command line."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

from steersman.v1.session_service_pb2 import (
    EVENT_KIND_CONSUMED,
    EVENT_KIND_DISLIKED,
    EVENT_KIND_HIDDEN,
    EVENT_KIND_SHOWN,
    Event,
)
from steersman_service.cli.client import Client
from steersman_service.cli.printing import fail
from steersman_service.cli.typed_items import read_items

# In the order in which they are appended: an item that was just consumed and is disliked stays disliked.
KINDS = {
    "--shown": EVENT_KIND_SHOWN,
    "--new": EVENT_KIND_CONSUMED,
    "--dislike": EVENT_KIND_DISLIKED,
    "--hide": EVENT_KIND_HIDDEN,
}

Typed = Mapping[str, Sequence[str] | None]
"""By option of KINDS: item ids or titles."""


def check_session(typed: Typed, session: str) -> None:
    """Ends the command if there are events and no session that could keep them."""
    for option in KINDS:
        if typed[option] and not session:
            instead = ", or give the items with --history" if option == "--new" else ""
            fail(f"{option}: is kept with a session, and none is named; add --session ID{instead}", 2)


def read_events(typed: Typed, client: Client) -> list[Event]:
    """Each with an id of its own. Unknown items are treated as by `read_items`."""
    return [
        Event(event_id=uuid4().hex, item_id=item_id, kind=kind)
        for option, kind in KINDS.items()
        for item_id in read_items(option, typed[option] or [], client)
    ]
