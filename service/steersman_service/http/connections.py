"""Bounds of a connection: how long it may take to say what it wants, and to read what it is told."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# From a connection, or the first byte of a further request, to the end of the request's head.
HEAD_SECONDS = 10.0
# For as much of an answer as a full buffer holds: 64 KiB.
READ_SECONDS = 20.0
MOST_HEAD_BYTES = 32 << 10


class BoundedProtocol(H11Protocol):
    """A connection that is too slow is closed without a word."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        super().connection_made(transport)
        self._late_head: asyncio.TimerHandle | None = None
        self._slow_reader: asyncio.TimerHandle | None = None
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._late_head)
            self._late_head = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow_reader = self._slow_reader or self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._slow_reader)
        self._slow_reader = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._late_head)
        _cancel(self._slow_reader)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._late_head = self._late_head or self.loop.call_later(HEAD_SECONDS, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
