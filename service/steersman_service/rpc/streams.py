"""Bounds of streams, which no deadline ends: how many there are, of all connections and of one, and how long one may be silent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from steersman_service.errors import SilentStream, TooManyStreams
from steersman_service.rpc.refusals import QuickRefusal

MOST_OF_CONNECTION = 16
# From one request of a stream to the next.
SILENT_SECONDS = 60.0


class StreamLimit:
    """At most `most` at a time, and MOST_OF_CONNECTION of a connection."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._of: Counter[str] = Counter()

    def too_late(self, seconds_left: float) -> QuickRefusal | None:
        return None

    def enter(self, whose: str) -> None:
        """`whose` is a connection. `leave` has to follow. Raises TooManyStreams."""
        if self._running >= self._most or self._of[whose] >= MOST_OF_CONNECTION:
            raise TooManyStreams()
        self._running += 1
        self._of[whose] += 1

    def leave(self, whose: str) -> None:
        self._running -= 1
        self._of[whose] -= 1
        if not self._of[whose]:
            del self._of[whose]


async def awaited(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same. Raises SilentStream."""
    while True:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                message = await anext(messages, None)
        except TimeoutError:
            raise SilentStream(SILENT_SECONDS) from None
        if message is None:
            return
        yield message
