"""An engine in a process of its own, as the server sees it. Its other side: engine_child.py.

What crosses between them are pickled tuples of arrays, over a socket pair that only these two have.
"""

import asyncio
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import structlog

from steersman_service.bundle import Bundle, load_bundle
from steersman_service.engine import Answer, Work
from steersman_service.engine_loading import Observer
from steersman_service.errors import EngineLost, StartupError
from steersman_service.held_histories import HeldHistories
from steersman_service.settings import Settings

# What the process may take to end when nobody is there any more: it has at most one batch to finish.
END_SECONDS = 10.0

log = structlog.get_logger()


class Loaded(NamedTuple):
    """The engine is ready."""

    name: str
    """Of its backend: "onnx" or "torch"."""
    device: str
    """ "cpu" or "cuda"."""


class Refused(NamedTuple):
    """The engine cannot be loaded."""

    why: str


class Cache(NamedTuple):
    """What a cache of the engine holds."""

    held_bytes: int
    entries: int


class Outcome(NamedTuple):
    """Of a batch."""

    answers: list[Answer] | str
    """Or the traceback of what went wrong."""
    observed: list[tuple[str, tuple[Any, ...]]]
    """Calls of `Observer`: name and arguments."""
    states: Cache
    key_values: Cache


def send(connection: Connection, message: Any) -> None:
    """Raises OSError if the other side is gone."""
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def receive(connection: Connection) -> Any:
    """Raises OSError or EOFError if the other side is gone."""
    return pickle.loads(connection.recv_bytes())


class EngineProcess:
    """Stands in for `Engine` before the batcher. Two threads may call it: while one batch is computed, the next one lies in the socket.

    If the process ends by itself, whatever is asked of it raises EngineLost at once, and the server has to end: it is started again as a
    whole, by whoever does so when an engine in a thread takes its server with it.
    """

    depth = 2

    def __init__(
        self, process: "subprocess.Popen[bytes]", connection: Connection, observer: Observer, lost: asyncio.Event
    ) -> None:
        self._process = process
        self._connection = connection
        self._observer = observer
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._held = HeldHistories()
        self.bundle: Bundle
        self.backend: Loaded
        self.states = self.key_values = Cache(0, 0)
        """As of the last batch."""
        self._lost = lost
        self._closing = False
        self._ended = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, settings: Settings, observer: Observer, lost: asyncio.Event) -> "EngineProcess":
        """Returns when it is loaded.

        `observer` is told what it does, batch by batch; `lost` is set if it ends by itself. Raises StartupError with its own words.
        """
        # Both sides read the same bundle, even if the link is turned elsewhere meanwhile.
        settings = settings.model_copy(update={"bundle": settings.bundle_folder.resolve()})
        ours, theirs = socket.socketpair()
        connection = Connection(ours.detach())
        with theirs:
            try:
                process = _spawned(theirs.fileno())
            except OSError as error:
                connection.close()
                raise StartupError(f"the engine's process cannot be started: {error.strerror}") from error
        engine = cls(process, connection, observer, lost)
        try:
            await engine._load(settings)
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def pid(self) -> int:
        return self._process.pid

    def positions(self, work: Work) -> int:
        """An estimate, by what was sent before (`HeldHistories`)."""
        return self._held.positions(work)

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        """As Engine.run. Raises EngineLost if the process is gone, RuntimeError with the engine's traceback if the batch failed."""
        message = pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)
        try:
            with self._sending:
                self._connection.send_bytes(message)
                for work in batch:
                    self._held.sent(work)
                # Before the next one may send: answers come in the order of batches.
                self._receiving.acquire()
            try:
                answer = self._connection.recv_bytes()
            finally:
                self._receiving.release()
        except (OSError, EOFError) as error:
            raise EngineLost from error
        outcome: Outcome = pickle.loads(answer)
        self._learn(outcome)
        if isinstance(outcome.answers, str):
            raise RuntimeError(f"in the engine's process: {outcome.answers}")
        return outcome.answers

    async def close(self) -> None:
        """Ends the process: it computes what it has, finds nobody there, and goes."""
        self._closing = True
        self._connection.close()
        done, _ = await asyncio.wait([self._ended], timeout=END_SECONDS)
        if not done:
            log.error("the engine's process does not end: killed", pid=self._process.pid)
            self._process.kill()
            await self._ended

    async def _wait(self) -> int:
        code = await asyncio.to_thread(self._process.wait)
        if not self._closing:
            log.error("the engine's process ended", pid=self._process.pid, exit_code=code)
            self._lost.set()
        return code

    async def _load(self, settings: Settings) -> None:
        try:
            send(self._connection, settings)
            # Meanwhile, the process does the same.
            self.bundle = load_bundle(settings.bundle_folder, settings.backend)
            answer: Loaded | Refused = await asyncio.to_thread(receive, self._connection)
        except (OSError, EOFError):
            code = await self._ended
            raise StartupError(f"the engine's process ended with exit code {code} before it was ready") from None
        if isinstance(answer, Refused):
            raise StartupError(answer.why)
        self.backend = answer

    def _learn(self, outcome: Outcome) -> None:
        with self._sending:
            self.states, self.key_values = outcome.states, outcome.key_values
            self._held.told(outcome.states.entries, outcome.key_values.entries)
        for name, arguments in outcome.observed:
            getattr(self._observer, name)(*arguments)


def _spawned(file: int) -> "subprocess.Popen[bytes]":
    """By vfork, unlike an event loop's: gRPC, which runs already, has handlers for forks that would get in its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "steersman_service.engine_child", str(file)],
        pass_fds=[file],
        # Ctrl-C goes to every process of the terminal's group: calls in flight still need the engine.
        start_new_session=True,
    )
