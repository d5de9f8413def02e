"""Finds items by words of their titles. Works on whole columns outside Python's lock, so that calls go on meanwhile."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from steersman_service.bundle.items import UNKNOWN, Items, Rows

pc: Any = pyarrow.compute  # its stubs lack large strings
WORD = re.compile(r"[^\W_]+")
# Of a folded title: what people leave out.
LEFT_OUT = r"^(the|an?) |\s*\(\d{4}\)$"


class ItemMatches(NamedTuple):
    rows: Rows
    """Best first."""
    exact: int
    """How many of them, from the first, have the text as their id or whole title."""


class FoldedTitles:
    """Titles as people type them, to be searched for words."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.column = _folded(titles)

    def having(self, text: str) -> Rows:
        """Places of the titles that contain every word of `text`; of a text without words, the text itself."""
        folded = _folded([text])[0].as_py()
        places: Rows = np.arange(len(self.column) if folded else 0)
        titles = self.column[: len(places)]
        for word in sorted(set(WORD.findall(folded)) or {folded}, key=len, reverse=True):  # the rare ones first
            held = pc.match_substring(titles, word)
            titles, places = titles.filter(held), places[held.to_numpy(zero_copy_only=False)]
        return places


class ItemSearch:
    """Searches the titles of `items`, which are prepared at the first search."""

    def __init__(self, items: Items) -> None:
        self._items = items

    @cached_property
    def _titles(self) -> FoldedTitles:
        return FoldedTitles(self._items.titles)

    def find(self, text: str) -> ItemMatches:
        """Items whose id is `text`, or whose title has every word of it. Equals come by length of title, then by id."""
        (row,) = self._items.places([text.strip()]).tolist()
        by_id = [] if row == UNKNOWN else [row]
        rows = self._titles.having(text)
        titles = self._titles.column.take(rows)
        tiers = _tiers(titles, _folded([text])[0].as_py())
        order = np.lexsort((rows, pc.utf8_length(titles).to_numpy(zero_copy_only=False), tiers))
        ranked = [found for found in rows[order].tolist() if found not in by_id]
        exact = int((tiers[rows != row] == 0).sum()) + len(by_id)
        return ItemMatches(np.array([*by_id, *ranked], np.int64), exact)


def _folded(texts: Sequence[str]) -> Any:
    """A column in lower case, without accents, apostrophes and spaces around: as people type it."""
    parted = pc.utf8_normalize(pa.array(texts, pa.large_string()), form="NFKD")
    return pc.utf8_trim_whitespace(pc.utf8_lower(pc.replace_substring_regex(parted, r"[\p{Mn}'’]", "")))


def _tiers(titles: Any, folded: str) -> npt.NDArray[np.int64]:
    """0: the whole title, 1: its beginning, 2: every word is one of the title's, 3: the others."""
    short = pc.replace_substring_regex(titles, LEFT_OUT, "")
    whole = pc.or_(pc.equal(titles, folded), pc.equal(short, pc.replace_substring_regex(folded, LEFT_OUT, "")))
    begins = pc.or_(pc.starts_with(titles, folded), pc.starts_with(short, folded))
    words = pa.array(np.ones(len(titles), np.bool_))
    for word in set(WORD.findall(folded)):
        words = pc.and_(words, pc.match_substring_regex(titles, rf"(^|[^\pL\pN]){word}($|[^\pL\pN])"))
    masks = [mask.to_numpy(zero_copy_only=False) for mask in (whole, begins, words)]
    return np.select(masks, [0, 1, 2], 3)
