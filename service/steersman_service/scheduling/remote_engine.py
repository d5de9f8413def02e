"""The engine in another process, as the batcher sees it. That process may compute for others, too."""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from typing import cast

from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.engine import Answer, Work
from steersman_service.engine.loading import Observer
from steersman_service.errors import EngineLost, StartupError
from steersman_service.scheduling.engine_wire import Cache, Loaded, Outcome, Request, packed, receive, unpacked
from steersman_service.scheduling.held_histories import HeldHistories


class RemoteEngine(asyncio.Protocol):
    """Stands in for `Engine` before the batcher, on the event loop: while one batch is computed, the next one lies in the socket.

    If the engine is gone, whatever is asked of it raises EngineLost at once, and the server has to end: it is started again as a
    whole, by whoever does so when an engine in a thread takes its server with it.
    """

    depth = 2

    def __init__(self, bundle: Bundle, backend: Loaded, observer: Observer, lost: asyncio.Event) -> None:
        self._observer = observer
        self._lost = lost
        self._transport: asyncio.WriteTransport
        self._gone = self._closed = False
        self._asked: deque[asyncio.Future[Outcome]] = deque()
        """Batches that it was sent. It answers them in their order."""
        self._unread = bytearray()
        self._held = HeldHistories()
        self.bundle = bundle
        self.backend = backend
        self.states = self.key_values = Cache(0, 0)
        """As of the last batch."""

    @classmethod
    async def open(
        cls, connection: socket.socket, bundle: Bundle, observer: Observer, lost: asyncio.Event
    ) -> "RemoteEngine":
        """`observer` is told what it does, batch by batch, and `lost` is set when it is gone. The connection is its own from here on.

        Raises StartupError if it is gone already, or serves another bundle.
        """
        try:
            loaded: Loaded = await asyncio.to_thread(receive, connection)
        except (OSError, EOFError):
            connection.close()
            raise StartupError("the engine's process ended before the server was ready") from None
        if loaded.version != bundle.version:
            connection.close()
            raise StartupError(
                f"bundle refused: {bundle.folder} holds {bundle.version}, and the engine has loaded {loaded.version} from there:"
                " a bundle's folder must not change while it is served"
            )
        engine = cls(bundle, loaded, observer, lost)
        await asyncio.get_running_loop().create_unix_connection(lambda: engine, sock=connection)
        return engine

    def positions(self, work: Work) -> int:
        """An estimate, by what was sent before (`HeldHistories`)."""
        return self._held.positions(work)

    async def run(self, batch: Sequence[Work]) -> list[Answer]:
        """As Engine.run. Raises EngineLost if the engine is gone, RuntimeError with its traceback if the batch failed."""
        if self._gone:
            raise EngineLost
        # First: for what cannot be sent there is no answer, and every later one would go to somebody else.
        message = packed([Request.of(work) for work in batch])
        asked: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._transport.write(message)
        for work in batch:
            self._held.sent(work)
        outcome = await asked
        self._learn(outcome)
        if isinstance(outcome.replies, str):
            raise RuntimeError(f"in the engine's process: {outcome.replies}")
        return [reply.answer() for reply in outcome.replies]

    def close(self) -> None:
        self._closed = True
        self._transport.abort()  # what it did not take yet is for nobody

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._unread += data
        for outcome in unpacked(self._unread):
            self._asked.popleft().set_result(outcome)

    def connection_lost(self, error: Exception | None) -> None:
        self._lose()

    def abandon(self) -> None:
        """It stands still, and shall not be waited for."""
        self._lose()
        self._transport.abort()

    def _lose(self) -> None:
        self._gone = True
        if not self._closed:
            self._lost.set()
        while self._asked:
            self._asked.popleft().set_exception(EngineLost())

    def _learn(self, outcome: Outcome) -> None:
        self.states, self.key_values = outcome.states, outcome.key_values
        self._held.told(outcome.states.entries, outcome.key_values.entries)
        for name, arguments in outcome.observed:
            getattr(self._observer, name)(*arguments)
