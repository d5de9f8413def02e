"""Keeps keys and values of histories: one that grew by a few events costs these alone.

Dimensions: B batch, P positions (the start token and the events), D hidden, R positions that a convolution reads back, W tensors of which a
row is kept for every position, V tensors of which the last R rows are, L = W + V.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.state_cache import EVENT_BYTES, StateCache

MOST_APPENDED = 8
"""Events by which a history may have grown. They are appended one by one: more than this cost as much as computing it anew."""
ROOM = 64
"""Positions by which the memory of a history grows."""
# What an entry takes in an ordered dictionary, beside its key and its numbers. tests/service/engine/test_kv_cache.py holds it.
ENTRY_BYTES = 512


class Layout:
    """Which tensors are kept of a history, in the order of `append`'s inputs: proto/README.md, "Histories that grow"."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        grow = np.array([name.endswith("_BPD") for name in names], np.bool_)
        self.every_W = np.flatnonzero(grow)
        """Which of them have a row for every position."""
        self.recent_V = np.flatnonzero(~grow)
        """Which of them have rows of the last positions alone."""
        self.places = [(own, int(np.count_nonzero(grow[:place] == own))) for place, own in enumerate(grow.tolist())]
        """Of each tensor: whether it is one of `every_W`, and its place there or in `recent_V`."""


class KeptHistory:
    """What was read of one history. It grows in place."""

    events: int
    """How many events were read."""

    def __init__(self, layout: Layout, events: int, tensors: Sequence[Array], most_events: int) -> None:
        """`tensors` are rows of what `keep` answers, (P or more, D) or (R, D) each. They are copied."""
        self.layout = layout
        self.events = events
        self._most = most_events + 1
        self._recent_VRD = np.stack([tensors[place] for place in layout.recent_V.tolist()])
        self._every_WPD = self._room(events + 1, tensors[0].shape[1])
        for rows_PD, place in zip(self._every_WPD, layout.every_W.tolist(), strict=True):
            rows_PD[: events + 1] = tensors[place][: events + 1]

    @property
    def nbytes(self) -> int:
        """Memory of its numbers, with the room to grow."""
        return int(self._every_WPD.nbytes + self._recent_VRD.nbytes)

    def tensors(self) -> list[Array]:
        """(P, D) or (R, D) each, as they lie in memory."""
        end = self.events + 1
        return [
            self._every_WPD[place, :end] if every else self._recent_VRD[place] for every, place in self.layout.places
        ]

    def append(self, added_LD: Array) -> None:
        """Takes the rows of one more event, as `append` answers them."""
        self.events += 1
        if self.events == self._every_WPD.shape[1]:
            full_WPD = self._every_WPD
            self._every_WPD = self._room(self.events + 1, full_WPD.shape[2])
            self._every_WPD[:, : self.events] = full_WPD
        self._every_WPD[:, self.events] = added_LD[self.layout.every_W]
        self._recent_VRD[:, :-1] = self._recent_VRD[:, 1:]
        self._recent_VRD[:, -1] = added_LD[self.layout.recent_V]

    def _room(self, positions: int, width: int) -> Array:
        return np.empty((len(self.layout.every_W), min(self._most, -(-positions // ROOM) * ROOM), width), np.float32)


class Table:
    """Lays kept histories beside each other, padded to the longest. Its memory is used again: what it gave before is overwritten."""

    def __init__(self) -> None:
        self._memory: dict[int, Array] = {}

    def lay(self, histories: Sequence[KeptHistory]) -> dict[str, Array]:
        """All tensors by name, (B, P, D) or (B, R, D). Those of a single history are no copies."""
        by_history = [history.tensors() for history in histories]
        laid = [self._one(place, rows) for place, rows in enumerate(zip(*by_history, strict=True))]
        return dict(zip(histories[0].layout.names, laid, strict=True))

    def _one(self, place: int, rows: Sequence[Array]) -> Array:
        if len(rows) == 1:
            return rows[0][None]
        longest = max(map(len, rows))
        shape = (len(rows), longest, rows[0].shape[1])
        memory, size = self._memory.get(place), math.prod(shape)
        if memory is None or len(memory) < size:
            memory = self._memory[place] = np.empty(size, np.float32)
        laid_BPD: Array = memory[:size].reshape(shape)
        for laid_PD, row_PD in zip(laid_BPD, rows, strict=True):
            laid_PD[: len(row_PD)] = row_PD
            if len(row_PD) < longest:
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

    def __len__(self) -> int:
        return len(self._histories)

    def take(self, key: bytes) -> KeptHistory | None:
        """The longest kept history that `key`, of StateCache.key, goes on from. It is the caller's, to grow and to put back."""
        for begin in StateCache.begins(key, MOST_APPENDED):
            if (history := self._histories.pop(begin, None)) is not None:
                self.held_bytes -= _size(begin, history)
                return history
        return None

    def new_events(self, key: bytes) -> int:
        """Events after the longest kept history that `key` goes on from; all of them, if there is none. May be called from any thread."""
        begins = StateCache.begins(key, MOST_APPENDED)
        kept = next((begin for begin in begins if begin in self._histories), b"")
        return (len(key) - len(kept)) // EVENT_BYTES

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


def _size(key: bytes, history: KeptHistory) -> int:
    return len(key) + history.nbytes + ENTRY_BYTES
