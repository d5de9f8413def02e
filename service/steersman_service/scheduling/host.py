"""Engine host: answers the requests of front ends from one batcher."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import structlog

from steersman_service.engine.request import EngineResult
from steersman_service.errors import RequestError
from steersman_service.scheduling.batcher import Batcher
from steersman_service.scheduling.frames import FrameReader, frame
from steersman_service.scheduling.wire import (
    Busy,
    Cancel,
    Failure,
    FromEngine,
    Hello,
    Result,
    Submit,
    ToEngine,
    Wait,
    to_engine,
)

# A front end that reads no results is disconnected beyond this.
MAX_UNREAD_BYTES = 256 << 20

log = structlog.get_logger()


class EngineHost:
    """Listens on a Unix socket. The socket's folder decides who may connect."""

    def __init__(self, batcher: Batcher, hello: Hello) -> None:
        self.batcher = batcher
        self.hello = hello
        self._connections: set[_FrontEndConnection] = set()
        self._left = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._path = Path()

    async def listen(self, path: Path) -> None:
        # Bound under another name: a front end that finds the socket finds it listening.
        bound = path.with_suffix(".new")
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _FrontEndConnection(self), bound)
        os.replace(bound, path)
        self._path = path

    async def close(self, seconds: float) -> None:
        """Waits up to `seconds` for front ends to disconnect, then ends."""
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)
        try:
            async with asyncio.timeout(seconds):
                while self._connections:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
        await self.batcher.close()

    def entered(self, connection: "_FrontEndConnection") -> None:
        self._connections.add(connection)

    def left(self, connection: "_FrontEndConnection") -> None:
        self._connections.discard(connection)
        self._left.set()


class _FrontEndConnection(asyncio.Protocol):
    """One front end."""

    def __init__(self, host: EngineHost) -> None:
        self._host = host
        self._reader: FrameReader[ToEngine] = FrameReader(to_engine)
        self._under_way: dict[int, asyncio.Future[EngineResult]] = {}
        self._spare: set[asyncio.Task[None]] = set()
        self._ready: list[FromEngine] = []
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass
        self._host.entered(self)
        self._send(self._host.hello)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.messages(data):
                self._take(message)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("malformed frame: connection closed", error=repr(error))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        for done in tuple(self._under_way.values()):
            done.cancel()
        self._host.left(self)

    def abort(self) -> None:
        self._transport.abort()

    def _take(self, message: ToEngine) -> None:
        if isinstance(message, Cancel):
            if (done := self._under_way.get(message.number)) is not None:
                done.cancel()
        elif message.spare:
            task = asyncio.get_running_loop().create_task(self._compute_spare(message))
            self._spare.add(task)
            task.add_done_callback(self._spare.discard)
        else:
            try:
                done = self._host.batcher.put(message.request(), message.deadline, message.tenant, message.trace)
            except RequestError as error:
                self._send(Failure.of(message.number, error))
            else:
                self._under_way[message.number] = done
                done.add_done_callback(partial(self._answer, message.number))

    async def _compute_spare(self, message: Submit) -> None:
        result = await self._host.batcher.spare(message.request())
        self._send(Busy(message.number) if result is None else Result.of(message.number, result))

    def _answer(self, number: int, done: "asyncio.Future[EngineResult]") -> None:
        del self._under_way[number]
        if not done.cancelled():
            error = done.exception()
            self._send(Result.of(number, done.result()) if error is None else Failure.of(number, error))

    def _send(self, message: FromEngine) -> None:
        """At the end of this turn of the event loop, in one frame with all others."""
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._flush)
        self._ready.append(message)

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        if self._transport.is_closing():
            return
        self._transport.write(frame([Wait(self._host.batcher.wait_seconds), *ready]))
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            log.error("a front end does not read its results: connection closed")
            self.abort()
