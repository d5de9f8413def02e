"""Stops calling a server that has failed for a while."""

import time
from collections.abc import Callable

from redis.exceptions import RedisError

# So many failures without an answer between them, over so long as a call may take, open it.
FAILURES = 3
# While it is open, one call in so long goes through. An answer closes it.
PROBE_SECONDS = 0.5


class BreakerOpen(RedisError):
    """The call was not made: the server has failed for a while."""


class Breaker:
    """Of one server. What counts is whether it answers at all: an answer that refuses is an answer."""

    def __init__(self, patience_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Failures that all lie within `patience_seconds` do not open it: a server that restarts is back by then."""
        self._patience_seconds, self._clock = patience_seconds, clock
        self.is_open = False
        self._failures = 0
        self._failing_since = self._next_probe = 0.0

    def admits(self) -> bool:
        """Whether a call may be made now, where the breaker is open: one in PROBE_SECONDS."""
        now = self._clock()
        if now < self._next_probe:
            return False
        self._next_probe = now + PROBE_SECONDS
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self.is_open = False

    def failed(self) -> None:
        now = self._clock()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if self._failures >= FAILURES and now - self._failing_since >= self._patience_seconds:
            self.is_open = True
            self._next_probe = now + PROBE_SECONDS
