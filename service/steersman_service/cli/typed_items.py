"""Items as typed on the command line: ids or titles, separated by commas."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from steersman.v1.item_service_pb2 import Item
from steersman_service.cli.client import MAX_TEXT_BYTES, Client
from steersman_service.cli.printing import fail, printable, remark, warn

PART = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"\s*|(?P<plain>[^,]*))(?:,|$)')
WORD = re.compile(r"[^\W_]+")
# An id or a title may have this many parts, and so hold commas; in a longer list than MAX_PARTS each part is an item.
MAX_JOINED = 5
MAX_PARTS = 100
MAX_UNKNOWN_SHOWN = 5
MAX_TITLES_SHOWN = 8
MAX_TITLES_SEARCHED = 50


class Reading(NamedTuple):
    """Consecutive parts read as one id or title."""

    text: str
    parts: int


def read_items(option: str, values: Sequence[str], client: Client) -> list[str]:
    """Item ids. A text that is neither an id nor a title is kept as an id, with a warning.

    Ends the command if a title is ambiguous, or if no item is known.
    """
    readings = [_readings(value) for value in values]
    ids = client.known_ids([*values, *(one.text for value in readings for here in value for one in here)])
    items = [
        item
        for value, read in zip(values, readings, strict=True)
        for item in ([(value, True)] if value in ids else _resolved(option, read, ids, client))
    ]
    unknown = [item_id for item_id, is_known in items if not is_known]
    if unknown:
        _tell_unknown(option, unknown, len(items), client)
    return [item_id for item_id, _ in items]


def _tell_unknown(option: str, unknown: list[str], total: int, client: Client) -> None:
    shown = ", ".join(printable(repr(text)) for text in unknown[:MAX_UNKNOWN_SHOWN])
    shown += f"{', ...' * (len(unknown) > MAX_UNKNOWN_SHOWN)}; {client.command('items TEXT')} finds items by title"
    if len(unknown) == total:
        fail(f"{option}: the server's bundle has no item {shown}")
    warn(f"{option}: {len(unknown)} unknown of {total} items, without effect on the answer: {shown}")


def _readings(value: str) -> list[list[Reading]]:
    """For each part, the readings that begin with it, the longest first. A quoted part is not joined with others."""
    parts = [part for part in PART.finditer(value) if _text(part)]
    most = MAX_JOINED if len(parts) <= MAX_PARTS else 1
    readings = []
    for begin, first in enumerate(parts):
        here = [Reading(_text(first), 1)]
        for last in parts[begin + 1 : begin + most]:
            if first["plain"] is None or last["plain"] is None:
                break
            here.append(Reading(value[first.start("plain") : last.end("plain")].strip(), len(here) + 1))
        readings.append(here[::-1])
    return readings


def _text(part: re.Match[str]) -> str:
    return part["plain"].strip() if part["quoted"] is None else part["quoted"].replace('""', '"')


def _resolved(
    option: str, readings: Sequence[Sequence[Reading]], ids: set[str], client: Client
) -> Iterator[tuple[str, bool]]:
    """Item ids, and whether each is known."""
    begin = 0
    while begin < len(readings):
        reading = next((reading for reading in readings[begin] if reading.text in ids), None)
        item_id: str | None = reading.text if reading else None
        if reading is None:
            reading, item_id = _find_title(option, readings[begin], client)
        yield item_id or reading.text, item_id is not None
        begin += reading.parts


def _find_title(option: str, readings: Sequence[Reading], client: Client) -> tuple[Reading, str | None]:
    """The longest reading that is the whole title of one item, else the one of a single part, which may be words of a title."""
    for reading in readings:
        if len(reading.text.encode()) > MAX_TEXT_BYTES:
            continue
        found = client.items(MAX_TITLES_SEARCHED, reading.text)
        single = reading.parts == 1
        items = list(found.items[: found.exact_matches])
        items = items or [item for item in found.items if single and _has_words(item, reading.text)]
        if len(items) == 1:
            remark(f"{option} {reading.text}: taken for {items[0].item_id}, {items[0].title}")
            return reading, items[0].item_id
        if items and single:
            _fail_ambiguous(option, reading.text, items, found.total_size, client)
    return readings[-1], None


def _has_words(item: Item, text: str) -> bool:
    """Whether the title has the words of `text`. Numbers alone are not enough: they would be an id."""
    words = _words(text)
    return words <= _words(item.title) and not all(word.isdigit() for word in words)


def _words(text: str) -> set[str]:
    """Without case, accents and apostrophes."""
    chars = unicodedata.normalize("NFKD", text.casefold())
    return set(WORD.findall("".join(char for char in chars if not unicodedata.combining(char) and char not in "'’")))


def _fail_ambiguous(option: str, text: str, items: Sequence[Item], total: int, client: Client) -> None:
    remark(f"{option}: {text!r} names several items:")
    for item in items[:MAX_TITLES_SHOWN]:
        remark(f"  {item.item_id}  {item.title}")
    more = f"; {client.command('items', text)} lists all {total}" if total > MAX_TITLES_SHOWN else ""
    fail(f"{option}: give the id of one of them, as in {option} {items[0].item_id}{more}")
