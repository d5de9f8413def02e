"""Pipelines concurrent calls to one server."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from steersman_service.sessions.breaker import Breaker, BreakerOpen

Part = str | int | bytes
Command = Sequence[Part]

# One library.
SOURCES = ("sessions.lua", "quotas.lua", "scenarios.lua", "labels.lua")
# Each with one pipeline on its way at a time. With one, a call that comes just after it has left would wait for two round trips.
CONNECTIONS = 2
# Calls in a pipeline: its replies are held until the last one has come.
MAX_CALLS = 128


class Library:
    """The functions that the Lua files beside this one define on a server."""

    def __init__(self) -> None:
        source = "\n".join(files(__package__).joinpath(name).read_text("utf-8") for name in SOURCES)
        self.name = f"steersman_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        self.load = ("FUNCTION", "LOAD", "REPLACE", source.replace("LIBRARY", self.name))


class Durability(NamedTuple):
    """When a write counts as kept."""

    replicas: int = 0
    """So many must have it, besides the primary. 0: none is waited for."""
    wait_ms: int = 0
    """Longest wait for them."""


NOT_WAITED = Durability()


class NotReplicated(RedisError):
    """The write was made, and too few replicas have it in time."""


Call = tuple[Command, asyncio.Future[Any], float, bool, bool]
"""Command, reply, until when (seconds of `time.monotonic()`, which is the loop's time), whether replicas must have what it changes,
and whether it follows an ASK redirection. A plain tuple: to make a named one takes a tenth of the time of a call."""


class Pipeline:
    """An idle connection is written to at once; calls that come while all are busy travel together in the next pipeline.

    A server that does not know the library is sent it, and the calls are repeated. A call may run twice after a lost connection, and
    runs on after its caller was cancelled. Replies are read in order, all of them or none: a connection with an unread reply is closed.
    redis-py's own pipelines take 1.5 to 2.5 times the CPU time (bench/sessions.py).
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        library: Library,
        timeout_seconds: float,
        durability: Durability = NOT_WAITED,
    ) -> None:
        """`connect` makes a connection, which connects when it is first written to."""
        self._library = library
        self._durability = durability
        self.breaker = Breaker(timeout_seconds)
        self._waiting: deque[Call] = deque()
        self._connections = [connect() for _ in range(CONNECTIONS)]
        self._idle = list(self._connections)
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(
        self, command: Command, until: float, writes: bool = False, probing: bool = False, asking: bool = False
    ) -> asyncio.Future[Any]:
        """The reply: TimeoutError after `until`, in seconds of `time.monotonic()`, and what redis raises, RedisError or OSError.

        `writes`: replicas must have what it changes. `probing` goes through an open breaker. Raises BreakerOpen.
        """
        if self.breaker.is_open and not probing and not self.breaker.admits():
            raise BreakerOpen
        loop = asyncio.get_running_loop()
        reply = loop.create_future()
        self._waiting.append((command, reply, until, writes, asking))
        if self._idle:
            task = loop.create_task(self._send(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return reply

    def reconnect(self) -> None:
        """Cuts all connections, as a server that dies does. Calls under way are made again."""
        for connection in self._connections:
            # `disconnect` would take the parser from whoever reads a reply.
            if (writer := connection._writer) is not None:
                writer.transport.abort()

    async def close(self) -> None:
        """Waits for the calls under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._connections:
            await connection.disconnect()

    async def _send(self, connection: AbstractConnection) -> None:
        waiting = self._waiting
        while waiting:
            calls = [waiting.popleft() for _ in range(min(MAX_CALLS, len(waiting)))]
            try:
                # The time of the first call: what delays it does not delay those in the next pipeline.
                async with asyncio.timeout_at(min([until for _, _, until, _, _ in calls])):
                    replies = await self._execute(connection, calls)
                self.breaker.succeeded()
            except Exception as error:
                self.breaker.failed()
                replies = [error] * len(calls)
            for (_, future, _, _, _), reply in zip(calls, replies, strict=True):
                if future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        self._idle.append(connection)

    async def _execute(self, connection: AbstractConnection, calls: Sequence[Call]) -> list[Any]:
        try:
            replies = await self._exchange(connection, calls)
        except RedisConnectionError:
            # It may have gone stale since its last use: one more attempt, at once, on a new one.
            await connection.disconnect()
            replies = await self._exchange(connection, calls)
        unknown = [place for place, reply in enumerate(replies) if _lacks_function(reply)]
        if unknown:
            (loaded,) = await pipelined(connection, [self._library.load])
            again = [loaded] * len(unknown)
            if not isinstance(loaded, ResponseError):
                again = await self._exchange(connection, [calls[place] for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies

    async def _exchange(self, connection: AbstractConnection, calls: Sequence[Call]) -> list[Any]:
        """A reply for each call."""
        if not (self._durability.replicas or any([asking for _, _, _, _, asking in calls])):  # noqa: C419  # half the time
            return await pipelined(connection, [command for command, _, _, _, _ in calls])
        commands: list[Command] = []
        places = []
        for command, _, _, _, asking in calls:
            if asking:
                commands.append(("ASKING",))
            places.append(len(commands))
            commands.append(command)
        # One wait, for all writes before it.
        waits = self._durability.replicas and any(writes for _, _, _, writes, _ in calls)
        if waits:
            commands.append(("WAIT", *self._durability))
        replies = await pipelined(connection, commands)
        told = [replies[place] for place in places]
        if waits and not _suffices(replies[-1], self._durability.replicas):
            told = [
                NotReplicated() if writes and not isinstance(reply, ResponseError) else reply
                for (_, _, _, writes, _), reply in zip(calls, told, strict=True)
            ]
        return told


async def pipelined(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """Sends all commands, then reads all replies, errors of single commands among them."""
    try:
        packed = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]  # its stub takes one part
        if not connection.is_connected:
            # Sending connects, too, but asks no Sentinel.
            await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_packed_command(packed)
        return [await _reply(connection) for _ in commands]
    except RuntimeError as error:
        # uvloop's word for a connection that was reset between two calls.
        await connection.disconnect(nowait=True)
        raise RedisConnectionError("the connection was reset") from error
    except BaseException:
        # An unread reply must not be taken for the next one's, nor may a connection be used that failed to select its database.
        await connection.disconnect(nowait=True)
        raise


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _suffices(acknowledged: object, replicas: int) -> bool:
    """What WAIT has answered. It fails on a server that has become a replica."""
    return isinstance(acknowledged, int) and acknowledged >= replicas


def _lacks_function(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
