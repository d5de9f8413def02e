"""Histories of real users that the bundle keeps, without names, to try controls on."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.item_search import FoldedTitles
from steersman_service.bundle.items import Items, Rows

LATEST_TITLES = 5
NONE = pa.table({"items": pa.array([], pa.list_(pa.int32())), "events_before": pa.array([], pa.int64())})


class SampleHistory(NamedTuple):
    item_ids: list[str]
    """Oldest first; one at least."""
    events_before: int
    """Events of the user before the first of them."""
    latest_titles: list[str]
    """Of the latest five items, the latest first."""


class Histories:
    """Those of a bundle, in its order. A bundle older than format 1.6 has none."""

    def __init__(self, bundle: Bundle, items: Items) -> None:
        self._items = items
        table = bundle.histories if bundle.histories is not None else NONE
        events: Any = table["items"].combine_chunks()
        self._rows: Rows = events.flatten().to_numpy().astype(np.int64)
        self._begins: Rows = np.append(0, events.value_lengths().to_numpy().cumsum()).astype(np.int64)
        self._events_before: Rows = table["events_before"].to_numpy()

    def __len__(self) -> int:
        return len(self._events_before)

    def __getitem__(self, place: int) -> SampleHistory:
        rows = self._rows[self._begins[place] : self._begins[place + 1]]
        return _sample(rows, int(self._events_before[place]), self._items)

    def find(self, text: str, seed: int) -> Rows:
        """Places of those with an item whose title has every word of `text` (empty: all): in order, or shuffled by a seed that is not 0."""
        places = np.random.default_rng(seed).permutation(len(self)) if seed else np.arange(len(self))
        return places[self._having(text)[places]] if text and len(self) else places

    def _having(self, text: str) -> npt.NDArray[np.bool_]:
        """Which histories have such an item."""
        distinct, places, titles = self._titles
        has = np.zeros(len(distinct), np.bool_)
        has[titles.having(text)] = True
        found: npt.NDArray[np.bool_] = np.logical_or.reduceat(has[places], self._begins[:-1])
        return found

    @cached_property
    def _titles(self) -> tuple[Rows, Rows, FoldedTitles]:
        """Items of all histories, each once; which of them each event has; their titles."""
        distinct, places = np.unique(self._rows, return_inverse=True)
        return distinct, places, FoldedTitles([self._items.titles[row] for row in distinct.tolist()])


def sample_histories(bundle: Bundle, items: Items, most: int) -> list[SampleHistory]:
    """The first `most` histories of the bundle; of one older than format 1.6, those of its golden rows."""
    kept = Histories(bundle, items)
    if len(kept):
        return [kept[place] for place in range(min(most, len(kept)))]
    golden = bundle.golden["lower"]
    windows = zip(golden["ids_BT"], golden["lengths_B"].tolist(), strict=True)
    return [_sample(ids_T[:length], 0, items) for ids_T, length in windows if length][:most]


def _sample(rows: Rows, events_before: int, items: Items) -> SampleHistory:
    latest = [items.titles[row] for row in rows[::-1][:LATEST_TITLES].tolist()]
    return SampleHistory([items.ids[row] for row in rows.tolist()], events_before, latest)
