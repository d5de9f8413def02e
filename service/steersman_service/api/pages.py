"""Pages of a list: each fits into a message, and ends with a token for the next one."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from steersman_service.checks import MAX_SEARCH_BYTES, check_bytes
from steersman_service.errors import FieldViolation, InvalidRequest

MAX_PAGE_SIZE, MAX_TOKEN_CHARACTERS = 1000, 1024
# gRPC clients' default limit.
CLIENTS_BYTES = 4 << 20
# Of the fields beside the list, and of an element beside its own bytes: a tag and its length.
REST_BYTES, ELEMENT_BYTES = 512, 6

Listed = TypeVar("Listed", bound=Message)


class Page(NamedTuple, Generic[Listed]):
    listed: Sequence[Listed]
    next_token: str
    """Empty on the last page."""


def check_query(text: str, page_size: int) -> Iterator[FieldViolation]:
    yield from check_bytes("text", text, 0, MAX_SEARCH_BYTES)
    if page_size > MAX_PAGE_SIZE:
        yield FieldViolation("page_size", f"{page_size}; at most {MAX_PAGE_SIZE}")


def page_of(
    found: Any,
    size: int,
    token: str,
    query: str,
    max_message_bytes: int,
    describe: Callable[[Any], Sequence[Listed]] = list,
) -> Page[Listed]:
    """At most `size` of `found`, from where `token` says. One at least, however large.

    `query` names the bundle and all that `found` depends on. `describe` makes messages of a slice of `found`. Raises InvalidRequest for a
    token that was not given for `query`.
    """
    start = _read_token(token, query)
    wanted = describe(found[start : start + size])
    listed = wanted[: max(1, _fitting(wanted, min(max_message_bytes, CLIENTS_BYTES) - REST_BYTES))]
    end = start + len(listed)
    return Page(listed, _token(end, query) if end < len(found) else "")


def _fitting(wanted: Sequence[Message], room_bytes: int) -> int:
    for count, message in enumerate(wanted):
        room_bytes -= message.ByteSize() + ELEMENT_BYTES
        if room_bytes < 0:
            return count
    return len(wanted)


def _token(start: int, query: str) -> str:
    digest = hashlib.sha256(query.encode()).hexdigest()[:16]
    return base64.urlsafe_b64encode(f"{start}:{digest}".encode()).decode()


def _read_token(token: str, query: str) -> int:
    """Index of the page's first element."""
    if not token:
        return 0
    try:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise ValueError
        start = int(base64.urlsafe_b64decode(token.encode()).partition(b":")[0])
    except (binascii.Error, ValueError):
        start = -1
    if start < 0 or token != _token(start, query):
        why = "belongs to another query or another bundle: start again without it"
        raise InvalidRequest([FieldViolation("page_token", why)])
    return start
