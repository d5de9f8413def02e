"""Engines in other processes, as a front end calls them."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast
from zlib import crc32

import structlog

from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import EngineLost, StartupError
from steersman_service.scheduling.frames import FrameReader, frame
from steersman_service.scheduling.wire import (
    Busy,
    Cancel,
    Failure,
    FromEngine,
    Hello,
    Submit,
    ToEngine,
    Wait,
    from_engine,
)
from steersman_service.telemetry.traces import traces

# Between attempts to connect; and to one that computes another bundle.
RETRY_SECONDS, OTHER_BUNDLE_SECONDS = 0.05, 5.0

log = structlog.get_logger()


class Engines(Protocol):
    """The seam of the engine: a Batcher in this process, or an EnginePool."""

    changed: asyncio.Event
    """Set when `alive` may have changed."""

    @property
    def alive(self) -> bool:
        """Whether there is an engine that takes requests."""

    @property
    def wait_seconds(self) -> float:
        """That a request which comes now is expected to wait until it is computed, by the engine that is free first."""

    async def submit(
        self, request: EngineRequest, deadline: float = ..., tenant: str = ..., session: str = ...
    ) -> EngineResult:
        """The result. `deadline` is in seconds of time.monotonic(). Raises QueueFull, DeadlineTooNear, DeadlinePassed, Draining or
        EngineLost; RuntimeError if the engine failed."""

    async def spare(self, request: EngineRequest) -> EngineResult | None:
        """The result if the engine is idle, None if it is not."""


class EngineClient:
    """One engine host. While it is gone, requests fail with EngineLost at once, and connecting goes on: to one of the same bundle alone."""

    def __init__(self, path: Path, changed: asyncio.Event) -> None:
        """`changed` is set whenever the connection is made or lost."""
        self.hello: Hello | None = None
        """None while there is no connection."""
        self._path = path
        self._changed = changed
        self._connection: _EngineConnection | None = None
        self._version = ""
        """Of the bundle, once it was connected."""
        self._under_way: dict[int, asyncio.Future[EngineResult | None]] = {}
        self._free_at = 0.0
        self._number = 0
        self._ready: list[ToEngine] = []
        self._connecting: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Requests under way."""
        return len(self._under_way)

    @property
    def wait_seconds(self) -> float:
        """As the engine host last said."""
        return max(0.0, self._free_at - time.monotonic())

    async def connect(self) -> Hello:
        """Waits for the engine host's Hello."""
        while True:
            connection = _EngineConnection(self)
            pause = RETRY_SECONDS
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda made=connection: made, str(self._path))  # type: ignore[misc]
                hello = await connection.hello
                if self._version not in ("", hello.version):
                    log.error("the engine has another bundle: its folder was changed", served=self._version)
                    pause = OTHER_BUNDLE_SECONDS
                elif not connection.transport.is_closing():
                    self.hello, self._connection, self._version = hello, connection, hello.version
                    self._changed.set()
                    return hello
            except OSError:
                pass
            finally:
                if connection is not self._connection:
                    connection.abort()
            await asyncio.sleep(pause)

    async def submit(self, request: EngineRequest, deadline: float, tenant: str) -> EngineResult:
        result = await self._submitted(request, deadline, tenant, spare=False)
        assert result is not None
        return result

    async def spare(self, request: EngineRequest) -> EngineResult | None:
        return await self._submitted(request, float("inf"), "", spare=True)

    def close(self) -> None:
        if self._connecting:
            self._connecting.cancel()
        if self._connection:
            connection, self._connection, self.hello = self._connection, None, None
            connection.abort()
            self._fail()

    def received(self, message: FromEngine) -> None:
        assert not isinstance(message, Hello)
        if isinstance(message, Wait):
            self._free_at = time.monotonic() + message.seconds
            return
        done = self._under_way.pop(message.number, None)
        if done is None or done.done():
            return  # cancelled meanwhile
        if isinstance(message, Failure):
            done.set_exception(message.error())
        else:
            done.set_result(None if isinstance(message, Busy) else message.result())

    def lost(self, connection: "_EngineConnection") -> None:
        """Nothing if it was not made use of."""
        if connection is self._connection:
            self.hello, self._connection = None, None
            self._fail()
            log.error("connection to the engine lost")
            self._changed.set()
            self._connecting = asyncio.get_running_loop().create_task(self._reconnect())

    def _fail(self) -> None:
        """What is under way."""
        lost, self._under_way = self._under_way, {}
        for done in lost.values():
            if not done.done():
                done.set_exception(EngineLost())

    async def _reconnect(self) -> None:
        await self.connect()

    async def _submitted(
        self, request: EngineRequest, deadline: float, tenant: str, *, spare: bool
    ) -> EngineResult | None:
        if self._connection is None:
            raise EngineLost
        self._number = number = self._number + 1
        done: asyncio.Future[EngineResult | None] = asyncio.get_running_loop().create_future()
        with traces().asking("engine", "spare" if spare else "submit"):
            message = Submit.of(number, request, deadline, tenant, spare, traces().context())
            self._under_way[number] = done
            self._send(message)
            try:
                return await done
            finally:
                if done.cancelled() and self._under_way.pop(number, None) is not None:
                    self._send(Cancel(number))

    def _send(self, message: ToEngine) -> None:
        """At the end of this turn of the event loop, in one frame with all others."""
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._flush)
        self._ready.append(message)

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        if self._connection is not None:
            self._connection.transport.write(frame(ready))


class _EngineConnection(asyncio.Protocol):
    def __init__(self, client: EngineClient) -> None:
        self.transport: asyncio.WriteTransport
        self.hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._client = client
        self._reader: FrameReader[FromEngine] = FrameReader(from_engine)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        for message in self._reader.messages(data):
            if isinstance(message, Hello):
                self.hello.set_result(message)
            else:
                self._client.received(message)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.hello.done():
            self.hello.set_exception(ConnectionResetError())
        self._client.lost(self)

    def abort(self) -> None:
        """Nothing if it was never made."""
        if hasattr(self, "transport"):
            self.transport.abort()


class EnginePool:
    """Engine hosts of one bundle. A session keeps to one of them, where its caches are; other requests go to the least loaded."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """`paths` are their sockets."""
        self.changed = asyncio.Event()
        self._clients = [EngineClient(path, self.changed) for path in paths]

    @property
    def alive(self) -> bool:
        return bool(self._connected())

    @property
    def wait_seconds(self) -> float:
        return min((client.wait_seconds for client in self._connected()), default=0.0)

    async def connect(self, version: str) -> Hello:
        """Waits for all of them. Raises StartupError if one serves another bundle than `version`."""
        hellos = await asyncio.gather(*(client.connect() for client in self._clients))
        if {hello.version for hello in hellos} != {version}:
            raise StartupError(
                f"bundle refused: the front end has read {version}, and an engine another one from the same folder:"
                " a bundle's folder must not change while it is served"
            )
        return hellos[0]

    async def submit(
        self, request: EngineRequest, deadline: float = float("inf"), tenant: str = "", session: str = ""
    ) -> EngineResult:
        return await self._choose(session).submit(request, deadline, tenant)

    async def spare(self, request: EngineRequest) -> EngineResult | None:
        return await self._choose("").spare(request)

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _choose(self, session: str) -> EngineClient:
        """Rendezvous hashing of a session (Thaler & Ravishankar 1998): while one engine is gone, only its sessions move."""
        connected = self._connected()
        if not connected:
            raise EngineLost
        if session and len(connected) > 1:
            return max(connected, key=lambda client: crc32(f"{self._clients.index(client)} {session}".encode()))
        return min(connected, key=lambda client: client.pending)

    def _connected(self) -> list[EngineClient]:
        return [client for client in self._clients if client.hello is not None]
