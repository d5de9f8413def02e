"""Bounds of streams, which no deadline ends: how many there are, of all connections and of one, and how long one may be silent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from steersman_service.errors import SilentStream, TooManyStreams
from steersman_service.rpc.refusals import QuickRefusal

MOST_OF_CONNECTION = 16
# From one request of a stream to the next.
SILENT_SECONDS = 60.0

TOO_MANY = QuickRefusal(TooManyStreams())


class StreamLimit:
    """At most `most` at a time, and MOST_OF_CONNECTION of a connection."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._of: Counter[str] = Counter()

    def enter(self, connection: str, seconds_left: float) -> QuickRefusal | None:
        """None: it is taken, and `leave` has to follow."""
        if self._running >= self._most or self._of[connection] >= MOST_OF_CONNECTION:
            return TOO_MANY
        self._running += 1
        self._of[connection] += 1
        return None

    def leave(self, connection: str, *, answered: bool) -> None:
        self._running -= 1
        self._of[connection] -= 1
        if not self._of[connection]:
            del self._of[connection]


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
