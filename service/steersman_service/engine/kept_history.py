"""Keys and values of a history: when it grows by a few events, only these are computed (proto/README.md, "Histories that grow").

Dimensions: B batch, P positions (the start token and the events), D hidden, R positions that a convolution reads back, W tensors with a row
for every position, V tensors with the last R rows, L = W + V.
"""

import math
from collections.abc import Sequence

import numpy as np

from steersman_service.bundle.bundle import Array

ROOM = 64
"""Positions by which the memory of a history grows."""


class Layout:
    """Which tensors are kept of a history, in the order of `append`'s inputs."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        grow_L = np.array([name.endswith("_BPD") for name in names], np.bool_)
        self.every_W = np.flatnonzero(grow_L)
        self.recent_V = np.flatnonzero(~grow_L)
        self.places = [(own, int(np.count_nonzero(grow_L[:place] == own))) for place, own in enumerate(grow_L.tolist())]
        """Of each tensor: whether it has a row for every position, and its place among those that do, or do not."""


class KeptHistory:
    """Keys and values of one history. It grows in place."""

    def __init__(self, layout: Layout, events: int, tensors: Sequence[Array], most_events: int) -> None:
        """Copies `tensors`, the rows that `keep` gives: (P or more, D) or (R, D) each."""
        self.layout = layout
        self.events = events
        self._most_positions = most_events + 1
        self._recent_VRD = np.stack([tensors[place] for place in layout.recent_V.tolist()])
        self._every_WPD = self._room(events + 1, tensors[0].shape[1])
        for rows_PD, place in zip(self._every_WPD, layout.every_W.tolist(), strict=True):
            rows_PD[: events + 1] = tensors[place][: events + 1]

    @property
    def nbytes(self) -> int:
        """With the room to grow."""
        return int(self._every_WPD.nbytes + self._recent_VRD.nbytes)

    def tensors(self) -> list[Array]:
        """Views of (P, D) or (R, D), in the order of the layout."""
        end = self.events + 1
        return [
            self._every_WPD[place, :end] if every else self._recent_VRD[place] for every, place in self.layout.places
        ]

    def append(self, added_LD: Array) -> None:
        """Adds the rows of one more event, as the graph `append` gives them."""
        self.events += 1
        if self.events == self._every_WPD.shape[1]:
            full_WPD = self._every_WPD
            self._every_WPD = self._room(self.events + 1, full_WPD.shape[2])
            self._every_WPD[:, : self.events] = full_WPD
        self._every_WPD[:, self.events] = added_LD[self.layout.every_W]
        self._recent_VRD[:, :-1] = self._recent_VRD[:, 1:]
        self._recent_VRD[:, -1] = added_LD[self.layout.recent_V]

    def _room(self, positions: int, width: int) -> Array:
        room = min(self._most_positions, -(-positions // ROOM) * ROOM)
        return np.empty((len(self.layout.every_W), room, width), np.float32)


class PaddingBuffer:
    """Pads kept histories to the longest of a batch. Its memory is used again: the next call overwrites what this one gave."""

    def __init__(self) -> None:
        self._memory: dict[int, Array] = {}

    def padded(self, histories: Sequence[KeptHistory]) -> dict[str, Array]:
        """All tensors by name, (B, P, D) or (B, R, D). Those of a single history are not copied."""
        by_tensor = zip(*(history.tensors() for history in histories), strict=True)
        padded = [self._one(place, rows) for place, rows in enumerate(by_tensor)]
        return dict(zip(histories[0].layout.names, padded, strict=True))

    def _one(self, place: int, rows: Sequence[Array]) -> Array:
        if len(rows) == 1:
            return rows[0][None]
        longest = max(map(len, rows))
        shape = (len(rows), longest, rows[0].shape[1])
        memory, size = self._memory.get(place), math.prod(shape)
        if memory is None or len(memory) < size:
            memory = self._memory[place] = np.empty(size, np.float32)
        padded_BPD: Array = memory[:size].reshape(shape)
        for padded_PD, row_PD in zip(padded_BPD, rows, strict=True):
            padded_PD[: len(row_PD)] = row_PD
            padded_PD[len(row_PD) :] = 0
        return padded_BPD
