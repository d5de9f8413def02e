"""Items as a person types them: ids, and titles where there is no such id. Several stand between commas."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from steersman.v1.item_service_pb2 import Item
from steersman_service.cli.arguments import MAX_TEXT_BYTES, Known
from steersman_service.cli.printing import fail, printable, remark, warn

# Between commas; what stands in double quotes may hold some.
PART = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"\s*|(?P<plain>[^,]*))(?:,|$)')
WORD = re.compile(r"[^\W_]+")
# Parts that may belong together: an id or a title may hold this many commas, less one. Of very many parts, each is an id.
MOST_JOINED = 5
MOST_PARTS = 100
# Titles that an ambiguous one is shown with.
SHOWN = 8
NAMED = 5
# Titles that are looked at.
SEARCHED = 50


class Part(NamedTuple):
    """What stands between commas."""

    begin: int
    end: int
    text: str
    quoted: bool


def read_items(option: str, values: Sequence[str], known: Known) -> list[str]:
    """Ids of the items that `option` names. What is neither an id nor a title is an id that the bundle does not know, and is said so.

    Ends the command if a title is ambiguous, or if nothing is known.
    """
    parted = [(value, list(_parts(value))) for value in values]
    ids = known.items(text for value, parts in parted for text in _candidates(value, parts))
    read = [item for value, parts in parted for item in _read(option, value, parts, ids, known)]
    unknown = [item_id for item_id, is_known in read if not is_known]
    if unknown:
        _tell_unknown(option, unknown, len(read), known)
    return [item_id for item_id, _ in read]


def _tell_unknown(option: str, unknown: list[str], total: int, known: Known) -> None:
    some = ", ".join(printable(repr(text)) for text in unknown[:NAMED]) + (", ..." if len(unknown) > NAMED else "")
    find = f"{known.command('items TEXT')} finds items by title"
    if len(unknown) == total:
        fail(f"{option}: the server's bundle knows no item {some}; {find}")
    warn(f"{option}: {len(unknown)} unknown of {total} items, without effect on the answer: {some}; {find}")


def _parts(value: str) -> Iterator[Part]:
    for found in PART.finditer(value):
        quoted = found["quoted"] is not None
        text = found["quoted"].replace('""', '"') if quoted else found["plain"].strip()
        if text:
            yield Part(found.start(), found.end() - (found.group().endswith(",")), text, quoted)


def _joined(value: str, parts: Sequence[Part]) -> str:
    return parts[0].text if len(parts) == 1 else value[parts[0].begin : parts[-1].end].strip()


def _runs(parts: Sequence[Part], begin: int) -> Iterator[Sequence[Part]]:
    """Parts from `begin` on that may be one name, the longest first."""
    most = MOST_JOINED if len(parts) <= MOST_PARTS else 1
    for end in range(min(len(parts), begin + most), begin, -1):
        run = parts[begin:end]
        if len(run) == 1 or not any(part.quoted for part in run):
            yield run


def _candidates(value: str, parts: Sequence[Part]) -> Iterator[str]:
    yield value
    for begin in range(len(parts)):
        yield from (_joined(value, run) for run in _runs(parts, begin))


def _read(option: str, value: str, parts: Sequence[Part], ids: set[str], known: Known) -> Iterator[tuple[str, bool]]:
    """Ids, and whether each is known."""
    if value in ids:
        yield value, True
        return
    begin = 0
    while begin < len(parts):
        runs = list(_runs(parts, begin))
        run = next((run for run in runs if _joined(value, run) in ids), None)
        if run:
            yield _joined(value, run), True
        else:
            run, item = _titled(option, value, runs, known)
            yield (item.item_id, True) if item else (_joined(value, run), False)
        begin += len(run)


def _titled(
    option: str, value: str, runs: Sequence[Sequence[Part]], known: Known
) -> tuple[Sequence[Part], Item | None]:
    """The item whose title the longest of `runs` is, or else the one that the last of them means."""
    for run in runs:
        text = _joined(value, run)
        if len(text.encode()) > MAX_TEXT_BYTES:
            continue
        found = known.search(text, SEARCHED)
        items = list(found.items)
        alone = len(run) == 1
        if found.exact_matches != 1:
            items = items[: found.exact_matches] or ([item for item in items if _means(text, item)] if alone else [])
        if items and (found.exact_matches == 1 or len(items) == 1):
            remark(f"{option} {text}: taken for {items[0].item_id}, {items[0].title}")
            return run, items[0]
        if items and alone:
            _ask_which(option, text, items, found.total_size, known)
    return runs[-1], None


def _means(text: str, item: Item) -> bool:
    """Whether the words of `text` are whole words of the title, and say more than a number, which would be an id."""
    words = _words(text)
    return words <= _words(item.title) and not all(word.isdigit() for word in words)


def _words(text: str) -> set[str]:
    parted = unicodedata.normalize("NFKD", text.casefold())
    return set(WORD.findall("".join(char for char in parted if not unicodedata.combining(char) and char not in "'’")))


def _ask_which(option: str, text: str, items: Sequence[Item], total: int, known: Known) -> None:
    remark(f"{option}: {text!r} names several items:")
    for item in items[:SHOWN]:
        remark(f"  {item.item_id}  {item.title}")
    more = f"{known.command('items', text)} lists all {total}; " if total > SHOWN else ""
    fail(f"{option}: give the id of the one that you mean, as in {option} {items[0].item_id}; {more}nothing was asked")
