"""What an engine in another process is expected to hold of histories: an estimate, kept by the one who sends them."""

from collections import OrderedDict

from steersman_service.engine import Work
from steersman_service.kv_cache import MOST_APPENDED
from steersman_service.state_cache import EVENT_BYTES, StateCache


class HeldHistories:
    """As many histories as that engine's caches hold, those that were sent last.

    Both caches let go of what was asked for longest ago, so this is what they hold, but for batches that failed and those that are under
    way. A history is known by a hash of its key, about 100 bytes: two with the same hash are estimated alike, nothing more. Whoever
    sends calls `sent` and `told`, one at a time; `positions` may be called from any thread.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[int, None] = OrderedDict()
        self._histories: OrderedDict[int, None] = OrderedDict()

    def positions(self, work: Work) -> int:
        """Events of its history that the engine would have to read."""
        key = StateCache.key(work.ids_T)
        if work.state or hash(key) in self._states:
            return 0
        return (len(key) - len(self._begin(key) or b"")) // EVENT_BYTES

    def sent(self, work: Work) -> None:
        """The engine computes it next: it does with its caches what they do."""
        key = StateCache.key(work.ids_T)
        begin = self._begin(key)
        if begin is not None:
            self._histories.pop(hash(begin), None)
        if begin is not None or work.grows or self._was_asked_before(key):
            _put(self._histories, hash(key))
        _put(self._states, hash(key))

    def told(self, states: int, histories: int) -> None:
        """How many entries the engine's caches have."""
        for held, entries in ((self._states, states), (self._histories, histories)):
            while len(held) > entries:
                held.popitem(last=False)

    def _begin(self, key: bytes) -> bytes | None:
        """The longest kept history that `key` goes on from."""
        return next((begin for begin in StateCache.begins(key, MOST_APPENDED) if hash(begin) in self._histories), None)

    def _was_asked_before(self, key: bytes) -> bool:
        """In a shorter form, or just as it is and kept."""
        begins = StateCache.begins(key, MOST_APPENDED)
        return hash(key) in self._histories or any(hash(begin) in self._states for begin in begins)


def _put(held: OrderedDict[int, None], history: int) -> None:
    held[history] = None
    held.move_to_end(history)
