"""Checks of ids, texts, names and hosts that several packages share."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice

from google.protobuf.timestamp_pb2 import Timestamp

from steersman.v1.session_service_pb2 import Event, EventKind
from steersman_service.errors import FieldViolation

SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
MAX_REQUEST_ID_BYTES = 128
TENANT = SESSION_ID
# Of a tenant that is not verified: it chooses a place in the queue alone.
MAX_TENANT_BYTES = 128
# gRPC takes 8 KiB of metadata, all together.
MAX_AUTHORIZATION_BYTES = 7 << 10
MAX_EVENT_ID_BYTES = 128
MAX_ITEM_ID_BYTES = 256
MAX_SEARCH_BYTES = 256
MAX_VERSION_BYTES = 128
EVENT_KINDS = frozenset(EventKind.values())
# The years 1 to 9999, in Unix time: what google.protobuf.Timestamp may hold.
LEAST_SECONDS, MOST_SECONDS = -62_135_596_800, 253_402_300_799
# Bounds what a hint costs: names that a wrong one is compared with, and how much of it.
MAX_COMPARED = 1000
MAX_COMPARED_CHARACTERS = 100


def check_session_id(session_id: str) -> Iterator[FieldViolation]:
    yield from check_name("session_id", session_id)


def check_name(field: str, name: str) -> Iterator[FieldViolation]:
    """Of a scenario: the characters of a session id."""
    if not SESSION_ID.fullmatch(name):
        yield FieldViolation(field, "must be 1 to 128 of the characters A-Z a-z 0-9 . _ - :")


def check_bytes(field: str, text: str, least: int, most: int) -> Iterator[FieldViolation]:
    size = len(text.encode())
    if not least <= size <= most:
        yield FieldViolation(field, f"has {size} bytes; {least} to {most} are allowed")


def check_item_ids(field: str, item_ids: Sequence[str]) -> Iterator[FieldViolation]:
    """The first that is too long to be one. Characters are counted: that is quick, and as good a bound of what an id costs."""
    if item_ids and max(map(len, item_ids)) > MAX_ITEM_ID_BYTES:
        index, size = next((i, len(one)) for i, one in enumerate(item_ids) if len(one) > MAX_ITEM_ID_BYTES)
        yield FieldViolation(f"{field}[{index}]", f"has {size} characters; at most {MAX_ITEM_ID_BYTES} are allowed")


def check_events(field: str, events: Sequence[Event], most: int) -> Iterator[FieldViolation]:
    """Of one append: 1 to `most` of them."""
    if not 1 <= len(events) <= most:
        yield FieldViolation(field, f"{len(events)} events; 1 to {most} are allowed")
        return
    for index, event in enumerate(events):
        yield from check_bytes(f"{field}[{index}].event_id", event.event_id, 1, MAX_EVENT_ID_BYTES)
        yield from check_bytes(f"{field}[{index}].item_id", event.item_id, 1, MAX_ITEM_ID_BYTES)
        if event.kind not in EVENT_KINDS:
            why = f"{event.kind} is no kind of events; known: {', '.join(EventKind.keys())}"
            yield FieldViolation(f"{field}[{index}].kind", why)
        if event.HasField("time") and not _is_time(event.time):
            why = "is no time between the years 1 and 9999, with nanos from 0 to 999999999; leave it out if it is not known"
            yield FieldViolation(f"{field}[{index}].time", why)


def _is_time(time: Timestamp) -> bool:
    return LEAST_SECONDS <= time.seconds <= MOST_SECONDS and 0 <= time.nanos < 1_000_000_000


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The names that `name` is most like, in any case, as a question; `otherwise` if it is like none."""
    close = nearest(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """A few names that `name` is like, in any case, the most first."""
    names: dict[str, str] = {}
    for candidate in islice(known, MAX_COMPARED):
        names.setdefault(candidate.casefold(), candidate)
    return [names[match] for match in get_close_matches(name[:MAX_COMPARED_CHARACTERS].casefold(), names)]


def on_this_machine(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
