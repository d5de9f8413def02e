"""What is kept of histories from one batch to another, found by the history itself, item by item, whichever session sends it.

A process serves one bundle, so no key names it.
"""

import sys
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.kept_history import KeptHistory

MOST_APPENDED = 8
"""Events by which a history may have grown. They are appended one by one: more than this cost as much as computing it anew."""
HISTORY_BYTES = 400
"""Of a KeptHistory beside its arrays."""
EVENT_BYTES = 4
"""Of an event in a key."""
ENTRY_BYTES = 128
"""Of an entry of an ordered dictionary beside its key and its value; the tests measure it."""

IDLE_SECONDS = 300.0
"""What is not used for so long is dropped, within twice that, so that nothing of an erased session stays."""
MARK = b"-"
"""Of a place in the order of use. No history has such a key: its length is a multiple of EVENT_BYTES."""

Value = TypeVar("Value")


def history_key(ids_T: Array) -> bytes:
    """Row numbers fit in 32 bits."""
    return np.asarray(ids_T, np.int32).tobytes()


def prefixes(key: bytes) -> Iterator[bytes]:
    """Keys of the same history without its last event, its last two, and so on to its last MOST_APPENDED."""
    return (key[: -EVENT_BYTES * events] for events in range(1, min(MOST_APPENDED, len(key) // EVENT_BYTES) + 1))


class BoundedCache(ABC, Generic[Value]):
    """Values of the keys that were used last, as many as fit in `limit_bytes`; none if that is 0.

    Not thread-safe: the engine's thread calls it. Other threads may read `held_bytes` and ask `in`.
    """

    def __init__(self, limit_bytes: int, on_evict: Callable[[], None] = lambda: None) -> None:
        """`on_evict` is called for every entry that makes room."""
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._on_evict = on_evict
        self._entries: OrderedDict[bytes, Value | None] = OrderedDict()
        self._next_mark = 0.0

    def __len__(self) -> int:
        return len(self._entries) - (MARK in self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def get(self, key: bytes) -> Value | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def age(self, now: float) -> None:
        """Drops what was not used since the mark was set, and sets it anew; every IDLE_SECONDS of `now`, in seconds."""
        if now < self._next_mark:
            return
        self._next_mark = now + IDLE_SECONDS
        while MARK in self._entries:
            self._drop_oldest()
        self._entries[MARK] = None

    def clear(self) -> None:
        self._entries.clear()
        self.held_bytes = 0

    def pop(self, key: bytes) -> Value | None:
        value = self._entries.pop(key, None)
        if value is not None:
            self.held_bytes -= self._size(key, value)
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Replaces what the key had. What was used longest ago makes room; a value that never fits is not held."""
        size = self._size(key, value)
        if size > self.limit_bytes:
            return
        self.pop(key)
        self._entries[key] = value
        self.held_bytes += size
        while self.held_bytes > self.limit_bytes:
            if self._drop_oldest():
                self._on_evict()

    def _drop_oldest(self) -> bool:
        """Whether that was an entry, and not the mark."""
        key, value = self._entries.popitem(last=False)
        if value is None:
            return False
        self.held_bytes -= self._size(key, value)
        return True

    @abstractmethod
    def _size(self, key: bytes, value: Value) -> int:
        """Bytes that an entry takes."""


class StateCache(BoundedCache[bytes]):
    """Hidden states, D numbers of float32: a history that comes again, under other controls or filters, is not computed again."""

    def _size(self, key: bytes, value: bytes) -> int:
        return sys.getsizeof(key) + sys.getsizeof(value) + ENTRY_BYTES


class KeyValueCache(BoundedCache[KeptHistory]):
    """Kept histories, one entry for a conversation: one that grew takes the place of what it was."""

    def take(self, key: bytes) -> KeptHistory | None:
        """Removes the longest kept history that `key` goes on from: the caller appends to it and puts it back."""
        prefix = self._longest(key)
        return None if prefix is None else self.pop(prefix)

    def new_events(self, key: bytes) -> int:
        """Events after the longest kept history that `key` goes on from, or all. May be called from any thread."""
        return (len(key) - len(self._longest(key) or b"")) // EVENT_BYTES

    def _longest(self, key: bytes) -> bytes | None:
        return next((prefix for prefix in prefixes(key) if prefix in self), None)

    def _size(self, key: bytes, value: KeptHistory) -> int:
        return sys.getsizeof(key) + value.nbytes + HISTORY_BYTES
