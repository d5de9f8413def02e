"""Keeps keys and values of histories: one that grew by a few events costs these alone.

Dimensions: B batch, P positions (the start token and the events), D hidden, R positions that a convolution reads back, W tensors of which a
row is kept for every position, V tensors of which the last R rows are, L = W + V.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.bundle import Array

MOST_APPENDED = 8
"""Events by which a history may have grown. They are appended one by one: more than this cost as much as computing it anew."""
ROOM = 64
"""Positions by which the memory of a history grows."""
# What an entry takes in an ordered dictionary, beside its key and its numbers. tests/service/test_kv_cache.py holds it.
ENTRY_BYTES = 512


class Layout(NamedTuple):
    """Which tensors are kept of a history: proto/README.md, `keep` and `append`."""

    names: tuple[str, ...]
    """All of them, in the order of `append`'s inputs."""
    every: tuple[int, ...]
    """Which of them have a row for every position."""
    recent: tuple[int, ...]
    """Which of them have a row for each of the last R positions."""

    @classmethod
    def of(cls, names: Sequence[str]) -> "Layout":
        grow = [name.endswith("_BPD") for name in names]
        every, recent = ([place for place, own in enumerate(grow) if own is wanted] for wanted in (True, False))
        return cls(tuple(names), tuple(every), tuple(recent))


class KeptHistory:
    """What was read of one history. It grows in place."""

    events: int
    """How many events were read."""

    def __init__(self, layout: Layout, events: int, tensors: Sequence[Array], most_events: int) -> None:
        """`tensors` are rows of what `keep` answers, (P or more, D) or (R, D) each. They are copied."""
        self.layout = layout
        self.events = events
        self._most = most_events + 1
        self._recent_VRD = np.stack([tensors[place] for place in layout.recent])
        self._every_WPD = self._room(events + 1, tensors[0].shape[1])
        for rows_PD, place in zip(self._every_WPD, layout.every, strict=True):
            rows_PD[: events + 1] = tensors[place][: events + 1]

    @property
    def nbytes(self) -> int:
        """Memory of its numbers, with the room to grow."""
        return int(self._every_WPD.nbytes + self._recent_VRD.nbytes)

    def tensor(self, place: int) -> Array:
        """One of the tensors, (P, D) or (R, D), as it lies in memory."""
        if place in self.layout.recent:
            recent_RD: Array = self._recent_VRD[self.layout.recent.index(place)]
            return recent_RD
        every_PD: Array = self._every_WPD[self.layout.every.index(place), : self.events + 1]
        return every_PD

    def append(self, added_LD: Array) -> None:
        """Takes the rows of one more event, as `append` answers them."""
        self.events += 1
        if self.events == self._every_WPD.shape[1]:
            full_WPD = self._every_WPD
            self._every_WPD = self._room(self.events + 1, full_WPD.shape[2])
            self._every_WPD[:, : self.events] = full_WPD
        self._every_WPD[:, self.events] = added_LD[list(self.layout.every)]
        self._recent_VRD[:, :-1] = self._recent_VRD[:, 1:]
        self._recent_VRD[:, -1] = added_LD[list(self.layout.recent)]

    def _room(self, positions: int, width: int) -> Array:
        return np.empty((len(self.layout.every), min(self._most, -(-positions // ROOM) * ROOM), width), np.float32)


class Table:
    """Lays kept histories beside each other, padded to the longest. Its memory is used again: what it gave before is overwritten."""

    def __init__(self) -> None:
        self._memory: dict[int, Array] = {}

    def lay(self, histories: Sequence[KeptHistory]) -> dict[str, Array]:
        """All tensors by name, (B, P, D) or (B, R, D). That of a single history is no copy."""
        layout = histories[0].layout
        return {
            name: self._one([history.tensor(place) for history in histories], place)
            for place, name in enumerate(layout.names)
        }

    def _one(self, rows: Sequence[Array], place: int) -> Array:
        if len(rows) == 1:
            return rows[0][None]
        shape = (len(rows), max(len(row) for row in rows), rows[0].shape[1])
        memory, size = self._memory.get(place), math.prod(shape)
        if memory is None or len(memory) < size:
            memory = self._memory[place] = np.empty(size, np.float32)
        laid_BPD: Array = memory[:size].reshape(shape)
        for laid_PD, row_PD in zip(laid_BPD, rows, strict=True):
            laid_PD[: len(row_PD)] = row_PD
            laid_PD[len(row_PD) :] = 0
        return laid_BPD


class KeyValueCache:
    """Kept histories of those that asked last, as many as fit.

    A history that grew is found by what it was before, item by item, whoever asks, and takes its place: there is one entry for
    a conversation. A process serves one bundle, so no key names it. Not thread-safe: the engine's thread calls it; `held_bytes`
    may be read from any.
    """

    held_bytes: int
    """What the entries take."""

    def __init__(
        self,
        limit_bytes: int,
        observe: Callable[[int, int], None] = lambda hits, misses: None,
        on_evict: Callable[[], None] = lambda: None,
    ) -> None:
        """Holds up to `limit_bytes`; nothing if that is 0.

        `observe` is told by the engine, batch by batch, how many histories were appended to and how many were computed whole;
        `on_evict` of every entry that had to make room.
        """
        self.limit_bytes = limit_bytes
        self.observe = observe
        self._on_evict = on_evict
        self.held_bytes = 0
        self._histories: OrderedDict[bytes, KeptHistory] = OrderedDict()

    def take(self, key: bytes) -> KeptHistory | None:
        """The longest kept history that `key`, of StateCache.key, goes on from. It is the caller's, to grow and to put back."""
        for events in range(1, min(MOST_APPENDED, len(key) // EVENT_BYTES) + 1):
            begin = key[: -EVENT_BYTES * events]
            if (history := self._histories.pop(begin, None)) is not None:
                self.held_bytes -= _size(begin, history)
                return history
        return None

    def touch(self, key: bytes) -> None:
        """The history was asked for again, and its state was known."""
        if key in self._histories:
            self._histories.move_to_end(key)

    def put(self, key: bytes, history: KeptHistory) -> None:
        """Holds what is kept of a history. Those that were asked for longest ago make room."""
        if _size(key, history) > self.limit_bytes:
            return
        if (old := self._histories.pop(key, None)) is not None:
            self.held_bytes -= _size(key, old)
        self._histories[key] = history
        self.held_bytes += _size(key, history)
        while self.held_bytes > self.limit_bytes:
            self.held_bytes -= _size(*self._histories.popitem(last=False))
            self._on_evict()


EVENT_BYTES = 4
"""Of a key of StateCache."""


def _size(key: bytes, history: KeptHistory) -> int:
    return len(key) + history.nbytes + ENTRY_BYTES
