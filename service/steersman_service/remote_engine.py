"""The engine in another process, as the batcher sees it. That process may compute for others, too."""

import asyncio
import socket
import threading
from collections.abc import Sequence

from steersman_service.bundle import Bundle
from steersman_service.engine import Answer, Work
from steersman_service.engine_loading import Observer
from steersman_service.engine_wire import Cache, Loaded, Outcome, packed, receive
from steersman_service.errors import EngineLost, StartupError
from steersman_service.held_histories import HeldHistories


class RemoteEngine:
    """Stands in for `Engine` before the batcher. Two threads may call it: while one batch is computed, the next one lies in the socket.

    If the engine is gone, whatever is asked of it raises EngineLost at once, and the server has to end: it is started again as a
    whole, by whoever does so when an engine in a thread takes its server with it.
    """

    depth = 2

    def __init__(
        self, connection: socket.socket, bundle: Bundle, backend: Loaded, observer: Observer, lost: asyncio.Event
    ) -> None:
        self._connection = connection
        self._observer = observer
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._held = HeldHistories()
        self.bundle = bundle
        self.backend = backend
        self.states = self.key_values = Cache(0, 0)
        """As of the last batch."""

    @classmethod
    async def open(
        cls, connection: socket.socket, bundle: Bundle, observer: Observer, lost: asyncio.Event
    ) -> "RemoteEngine":
        """`observer` is told what it does, batch by batch, and `lost` is set when a call finds it gone.

        Raises StartupError if it is gone already, or serves another bundle.
        """
        try:
            loaded: Loaded = await asyncio.to_thread(receive, connection)
        except (OSError, EOFError):
            raise StartupError("the engine's process ended before the server was ready") from None
        if loaded.version != bundle.version:
            raise StartupError(
                f"bundle refused: {bundle.folder} holds {bundle.version}, and the engine has loaded {loaded.version} from there:"
                " a bundle's folder must not change while it is served"
            )
        return cls(connection, bundle, loaded, observer, lost)

    def positions(self, work: Work) -> int:
        """An estimate, by what was sent before (`HeldHistories`)."""
        return self._held.positions(work)

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        """As Engine.run. Raises EngineLost if the engine is gone, RuntimeError with its traceback if the batch failed."""
        message = packed(batch)
        try:
            with self._sending:
                self._connection.sendall(message)
                for work in batch:
                    self._held.sent(work)
                # Before the next one may send: answers come in the order of batches.
                self._receiving.acquire()
            try:
                outcome: Outcome = receive(self._connection)
            finally:
                self._receiving.release()
        except (OSError, EOFError) as error:
            self._loop.call_soon_threadsafe(self._lost.set)
            raise EngineLost from error
        self._learn(outcome)
        if isinstance(outcome.answers, str):
            raise RuntimeError(f"in the engine's process: {outcome.answers}")
        return outcome.answers

    def close(self) -> None:
        self._connection.close()

    def _learn(self, outcome: Outcome) -> None:
        with self._sending:
            self.states, self.key_values = outcome.states, outcome.key_values
            self._held.told(outcome.states.entries, outcome.key_values.entries)
        for name, arguments in outcome.observed:
            getattr(self._observer, name)(*arguments)
