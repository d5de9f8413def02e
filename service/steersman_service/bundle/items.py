"""The items of a bundle: external ids, titles, and the attributes that filters and tilts refer to."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from steersman_service.checks import did_you_mean
from steersman_service.errors import BundleError

FILE = "items.parquet"
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Lean = npt.NDArray[np.float64]
NOWHERE: Rows = np.array([], np.int64)
UNKNOWN = -1
"""In place of the row of an item that the bundle does not know."""
# Values that an error names.
SHOWN = 5


class Items:
    """Row n is the item whose embedding is row n of the item table. Rows are sorted by external id."""

    def __init__(self, table: pa.Table) -> None:
        for column in ("item_id", "title"):
            if column not in table.column_names:
                raise BundleError(FILE, f"has no column {column}")
        self.ids: list[str] = list(map(str, table["item_id"].to_pylist()))
        self.titles: list[str] = [title or "" for title in table["title"].to_pylist()]
        # The answer's order among equal scores rests on it. Python compares code points, which is the order of UTF-8.
        if any(a >= b for a, b in zip(self.ids, self.ids[1:], strict=False)):
            raise BundleError(FILE, "rows are not sorted by item_id, or an item_id stands twice")
        self._row_of = {item_id: row for row, item_id in enumerate(self.ids)}
        self.attributes = dict(_attributes(table))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Rows of the known ones among `item_ids`, in order."""
        return known(self.places(item_ids))

    def places(self, item_ids: Iterable[str]) -> Rows:
        """A row, or UNKNOWN, for each of `item_ids`."""
        return np.fromiter(map(self._row_of.get, item_ids, repeat(UNKNOWN)), np.int64)

    def unknown_attribute(self, name: str) -> str:
        """That there is no attribute `name`, and which one may be meant."""
        names = f"known: {', '.join(self.attributes) or 'none'}"
        return f"unknown attribute {name[:50]!r}; {did_you_mean(name, self.attributes, names)}"


def known(places: Rows) -> Rows:
    """The rows among what `Items.places` gives."""
    rows: Rows = places[places != UNKNOWN]
    return rows


class Categories:
    """An attribute whose values are texts; an item may have several."""

    def __init__(self, column: Any) -> None:
        self._column = column
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, values in enumerate(column.to_pylist()):
            for value in values or ():
                rows_of[value].append(row)
        self.rows_of = {value: np.array(rows, np.int64) for value, rows in rows_of.items()}
        """Rows of the items that have each value."""

    @cached_property
    def counts(self) -> list[tuple[str, int]]:
        """How many items have each value, the most frequent value first, equals by name."""
        return sorted(
            ((value, len(rows)) for value, rows in self.rows_of.items()), key=lambda each: (-each[1], each[0])
        )

    @cached_property
    def known(self) -> int:
        """Items that have any value."""
        return len(np.unique(np.concatenate([NOWHERE, *self.rows_of.values()])))

    def why_no_filter(self, values: Sequence[str]) -> tuple[int, str] | None:
        """Index of the first of `values` that no item has, and what would be right."""
        return next(((index, why) for index, value in enumerate(values) if (why := self.why_no_tilt(value))), None)

    def having(self, values: Iterable[str], size: int) -> Mask:
        """Which of the `size` items have any of `values`; a value that no item has matches none."""
        mask_N = np.zeros(size, np.bool_)
        for value in values:
            mask_N[self.rows_of.get(value, NOWHERE)] = True
        return mask_N

    def among(self, rows: Rows) -> tuple[list[str], Mask]:
        """The values that any of `rows` has, and which of `rows` has each. (V, M)"""
        sorted_rows, codes, names = self._by_row
        begins, ends = (np.searchsorted(sorted_rows, rows, side) for side in ("left", "right"))
        places = np.repeat(np.arange(len(rows)), ends - begins)
        found = [codes[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        used, values = np.unique(np.concatenate([*found, NOWHERE]), return_inverse=True)
        has_VM = np.zeros((len(used), len(rows)), np.bool_)
        has_VM[values, places] = True
        return [names[code] for code in used.tolist()], has_VM

    @cached_property
    def _by_row(self) -> tuple[Rows, Rows, list[str]]:
        """Rows in order, each as often as it has values; the number of each value; the values by number."""
        rows = np.concatenate([*self.rows_of.values(), NOWHERE])
        codes = np.repeat(np.arange(len(self.rows_of)), [len(own) for own in self.rows_of.values()])
        order = np.argsort(rows, kind="stable")
        return rows[order], codes[order], list(self.rows_of)

    def why_no_tilt(self, value: str) -> str:
        """What is wrong with a tilt by `value`, and what would be right. Empty: nothing."""
        if value in self.rows_of:
            return ""
        some = ", ".join(islice(self.rows_of, SHOWN)) or "none"
        return f"no item has {value[:50]!r}; {did_you_mean(value, self.rows_of, f'values are {some}')}"

    def shares(self, *lists: Rows) -> list[dict[str, float]]:
        """Share of the items of each list that have each value."""
        values = iter(self._column.take(np.concatenate(lists)).to_pylist())
        counts = [Counter(value for own in islice(values, len(rows_K)) for value in set(own or ())) for rows_K in lists]
        return [
            {value: count / len(rows_K) for value, count in own.items()}
            for own, rows_K in zip(counts, lists, strict=True)
        ]

    def tilt(self, tilts_N: Lean, value: str, strength: float) -> None:
        """Adds `strength` to the tilts of items that have `value`."""
        tilts_N[self.rows_of.get(value, NOWHERE)] += strength


class Numbers:
    """An attribute whose values are numbers; NaN where unknown, which equals nothing."""

    def __init__(self, column: Any) -> None:
        self.values_N = column.fill_null(float("nan")).to_numpy(zero_copy_only=False)
        """NaN where unknown."""
        self._distinct = np.unique(self.values_N[np.isfinite(self.values_N)])

    def why_no_filter(self, values: Sequence[str]) -> tuple[int, str] | None:
        """Index of the first of `values` that is no number, or 0 if no item has any of them, and what would be right."""
        for index, value in enumerate(values):
            if not _is_number(value):
                return index, f"the attribute is numeric, and {value[:50]!r} is no number"
        if np.isin([float(value) for value in values], self._distinct).any():
            return None
        place = int(np.searchsorted(self._distinct, float(values[0])))
        near = " and ".join(f"{value:.15g}" for value in self._distinct[max(0, place - 1) : place + 1])
        hint = f"its nearest values are {near}" if near else "no item has a value"
        return 0, f"no item has {', '.join(value[:50] for value in values[:SHOWN])}; {hint}"

    def having(self, values: Iterable[str], size: int) -> Mask:
        """Which of the `size` items have any of `values`, all of them numbers."""
        return np.isin(self.values_N, [float(value) for value in values])

    def why_no_tilt(self, value: str) -> str:
        """What is wrong with a tilt by `value`, and what would be right. Empty: nothing."""
        if value:
            return f"is {value[:50]!r}, but the attribute is numeric: leave it empty, and large values are favoured"
        return "" if self._standardised_N.any() else "stands for a number that is the same for all items"

    def tilt(self, tilts_N: Lean, value: str, strength: float) -> None:
        """Adds `strength` times the standard score over the items with a finite value; the others are not tilted."""
        tilts_N += strength * self._standardised_N

    @cached_property
    def _standardised_N(self) -> Lean:
        known_N = np.isfinite(self.values_N)
        lean_N = np.zeros(len(self.values_N))
        known = self.values_N[known_N]
        # By range, not by deviation: that of equal numbers is not always 0. Scaled, so that squares stay finite.
        if known.size and (largest := np.abs(known).max()) and known.min() < known.max():
            known = known / largest
            lean_N[known_N] = (known - known.mean()) / known.std()
        return lean_N


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _attributes(table: pa.Table) -> Iterator[tuple[str, Categories | Numbers]]:
    for field in table.schema:
        if field.name in ("item_id", "title"):
            continue
        column = table[field.name].combine_chunks()
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            yield field.name, Categories(column)
        elif pa.types.is_float64(field.type):
            yield field.name, Numbers(column)
