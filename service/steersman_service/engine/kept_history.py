"""Keys and values of a history: when it grows by a few events, only these are computed (proto/README.md, "Histories that grow").

Dimensions: B batch, P positions (the start token and the events), D hidden, R positions that a convolution reads back, L kept tensors.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from steersman_service.bundle.bundle import Array

ROOM = 64
"""Positions by which the memory of a history grows."""
ARRAY_BYTES = 144
"""Of an array beside its numbers; the tests measure it."""


class KeptHistory:
    """The kept tensors of one history, in the order of `append`'s inputs. It grows in place."""

    def __init__(self, events: int, rows: Mapping[str, Array], most_events: int) -> None:
        """Copies `rows` of what `keep` gives: (P or more, D) of each `_BPD`, (R, D) of each `_BRD`."""
        self.events = events
        self._most_positions = most_events + 1
        self._arrays = {
            name: self._with_room(array[: events + 1]) if _grows(name) else array.copy() for name, array in rows.items()
        }

    @property
    def nbytes(self) -> int:
        """With the room to grow."""
        return sum(array.nbytes + ARRAY_BYTES for array in self._arrays.values())

    def tensors(self) -> dict[str, Array]:
        """Views of (P, D) or (R, D)."""
        end = self.events + 1
        return {name: array[:end] if _grows(name) else array for name, array in self._arrays.items()}

    def append(self, added_LD: Array) -> None:
        """Adds the rows of one more event, as the graph `append` gives them."""
        self.events += 1
        for (name, array), added_D in zip(self._arrays.items(), added_LD, strict=True):
            if not _grows(name):
                array[:-1] = array[1:]
                array[-1] = added_D
                continue
            if self.events == len(array):
                self._arrays[name] = self._with_room(array)
            self._arrays[name][self.events] = added_D

    def _with_room(self, rows_PD: Array) -> Array:
        room = min(self._most_positions, -(-(self.events + 1) // ROOM) * ROOM)
        copy_PD = np.empty((room, rows_PD.shape[1]), np.float32)
        copy_PD[: len(rows_PD)] = rows_PD
        return copy_PD


class PaddingBuffer:
    """Pads kept histories to the longest of a batch. Its memory is used again: the next call overwrites what this one gave."""

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}

    def padded(self, histories: Sequence[KeptHistory]) -> dict[str, Array]:
        """All tensors by name, (B, P, D) or (B, R, D). Those of a single history are not copied."""
        rows = [history.tensors() for history in histories]
        if len(rows) == 1:
            return {name: array[None] for name, array in rows[0].items()}
        return {name: self._one(name, [own[name] for own in rows]) for name in rows[0]}

    def _one(self, name: str, rows: Sequence[Array]) -> Array:
        shape = (len(rows), max(map(len, rows)), rows[0].shape[1])
        size = int(np.prod(shape))
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = np.empty(size, np.float32)
        padded_BPD = self._memory[name][:size].reshape(shape)
        for padded_PD, row_PD in zip(padded_BPD, rows, strict=True):
            padded_PD[: len(row_PD)] = row_PD
            padded_PD[len(row_PD) :] = 0
        return padded_BPD


def _grows(name: str) -> bool:
    """Whether a tensor has a row for every position."""
    return name.endswith("_BPD")
