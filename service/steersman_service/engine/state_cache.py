"""Keeps hidden states: a history that comes again, under other controls or filters, is not computed again."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

from steersman_service.bundle.bundle import Array

# What an entry takes in an ordered dictionary, beside its key and its value. tests/service/engine/test_state_cache.py holds it.
ENTRY_BYTES = 128
# Of an event in a key.
EVENT_BYTES = 4


class StateCache:
    """Hidden states of the histories that were asked for last, as many as fit.

    The key is the window itself, item by item: what is found was computed from the very same history, whoever asked.
    A process serves one bundle, so no key names it. Not thread-safe: the engine's thread calls it; `held_bytes`
    may be read from any.
    """

    held_bytes: int
    """What the entries take."""

    def __init__(self, limit_bytes: int, observe: Callable[[int, int], None] = lambda hits, misses: None) -> None:
        """Holds up to `limit_bytes`; nothing if that is 0.

        `observe` is told by the engine, batch by batch, of how many requests the state was there already (from here, or
        from another request of the batch) and for how many it was computed.
        """
        self.limit_bytes = limit_bytes
        self.observe = observe
        self.held_bytes = 0
        self._states: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    @staticmethod
    def key(ids_T: Array) -> bytes:
        """Of a window of item rows. Row numbers fit in 32 bits."""
        return np.asarray(ids_T, np.int32).tobytes()

    @staticmethod
    def begins(key: bytes, most: int) -> Iterator[bytes]:
        """Keys of the same window without its last event, its last two, and so on to its last `most`."""
        return (key[: -EVENT_BYTES * events] for events in range(1, min(most, len(key) // EVENT_BYTES) + 1))

    def knows_begin(self, key: bytes, most: int) -> bool:
        """Whether the window was asked for before it grew, by up to `most` events."""
        return any(begin in self._states for begin in self.begins(key, most))

    def knows(self, key: bytes) -> bool:
        """Whether the state is held. May be called from any thread."""
        return key in self._states

    def get(self, key: bytes) -> bytes | None:
        """The state, D numbers of float32; None if it is not held."""
        state = self._states.get(key)
        if state is not None:
            self._states.move_to_end(key)
        return state

    def put(self, key: bytes, state_D: Array) -> None:
        """Holds a state. Those that were asked for longest ago make room."""
        if key in self._states:
            return
        state = state_D.tobytes()
        self._states[key] = state
        self.held_bytes += _size(key, state)
        while self.held_bytes > self.limit_bytes:
            self.held_bytes -= _size(*self._states.popitem(last=False))


def _size(key: bytes, state: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(state) + ENTRY_BYTES
