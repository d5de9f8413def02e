"""Calls that were begun, and whose message has not come."""

import asyncio
from itertools import islice

MOST = 4096
# From the head of a call to its first message.
LONGEST_SECONDS = 20.0
SWEEP_SECONDS = 1.0


class Unread:
    """So many at a time; those that take too long are ended."""

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[object], float] = {}
        """In the order in which they came."""
        self._sweep: asyncio.TimerHandle | None = None

    def add(self) -> bool:
        """Of the task that runs. False: there are too many."""
        # Two of the oldest for each that is new: those that were reset leave no other trace.
        for oldest in [*islice(self._until, 2)]:
            if oldest.done():
                del self._until[oldest]
        if len(self._until) >= MOST:
            return False
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task
        self._until[task] = loop.time() + LONGEST_SECONDS
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._end_late)
        return True

    def read(self) -> None:
        """The task that runs has its message."""
        task = asyncio.current_task()
        assert task
        self._until.pop(task, None)

    def _end_late(self) -> None:
        loop = asyncio.get_running_loop()
        for task, until in [*self._until.items()]:
            if task.done():
                del self._until[task]
            elif until < loop.time():
                del self._until[task]
                task.cancel()
        self._sweep = loop.call_later(SWEEP_SECONDS, self._end_late) if self._until else None
