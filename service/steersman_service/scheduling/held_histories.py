"""What an engine in another process is expected to hold of histories: an estimate, kept by the one who sends them."""

from collections import OrderedDict

from steersman_service.engine.engine import Work
from steersman_service.engine.kv_cache import MOST_APPENDED
from steersman_service.engine.state_cache import EVENT_BYTES, StateCache


class HeldHistories:
    """As many histories as that engine's caches hold, those that were sent last.

    Both caches let go of what was asked for longest ago, so this is what they hold, but for batches that failed and those that are under
    way. Where others send to the same engine, too, it knows nothing of their histories, and learns late that they pushed out its own. A
    history is known by a hash of its key, about 100 bytes: two with the same hash are estimated alike, nothing more.
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
        """The engine computes it next: this does what its caches do then."""
        key = StateCache.key(work.ids_T)
        history, begin = hash(key), self._begin(key)
        if work.state or history in self._states:
            if history in self._histories:
                self._histories.move_to_end(history)
        elif begin is not None or work.grows or self._was_asked_before_it_grew(key):
            self._histories.pop(hash(begin), None)
            _put(self._histories, history)
        _put(self._states, history)

    def told(self, states: int, histories: int) -> None:
        """How many entries the engine's caches have."""
        for held, entries in ((self._states, states), (self._histories, histories)):
            while len(held) > entries:
                held.popitem(last=False)

    def _begin(self, key: bytes) -> bytes | None:
        """The longest kept history that `key` goes on from."""
        return next((begin for begin in StateCache.begins(key, MOST_APPENDED) if hash(begin) in self._histories), None)

    def _was_asked_before_it_grew(self, key: bytes) -> bool:
        return any(hash(begin) in self._states for begin in StateCache.begins(key, MOST_APPENDED))


def _put(held: OrderedDict[int, None], history: int) -> None:
    held[history] = None
    held.move_to_end(history)
