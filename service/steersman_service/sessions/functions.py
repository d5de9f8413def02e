"""Pipelines concurrent calls of the functions that the Lua files beside it define on the server."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

Part = str | int | bytes
Command = Sequence[Part]

# One library.
SOURCES = ("sessions.lua", "scenarios.lua", "labels.lua")
# Each with one pipeline on its way at a time. With one, a call that comes just after it has left would wait for two round trips.
CONNECTIONS = 2
# Calls in a pipeline: its replies are held until the last one has come.
MAX_CALLS = 128


class _Call(NamedTuple):
    command: Command
    reply: asyncio.Future[Any]
    until: float


class StoreFunctions:
    """An idle connection is written to at once; calls that come while both are busy travel together in the next pipeline.

    A server that does not know the library is sent it, and the calls are repeated. A call may run twice after a lost connection, and
    runs on after its caller was cancelled. redis-py's own pipelines take 1.5 to 2.5 times the CPU time (bench/sessions.py).
    """

    def __init__(self, pool: ConnectionPool, timeout_seconds: float) -> None:
        """`pool` makes the connections and keeps none of them."""
        source = "\n".join(files(__package__).joinpath(name).read_text("utf-8") for name in SOURCES)
        self._library = f"steersman_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        self._load = ("FUNCTION", "LOAD", "REPLACE", source.replace("LIBRARY", self._library))
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Call] = deque()
        made = (pool.make_connection() for _ in range(CONNECTIONS))  # type: ignore[no-untyped-call]
        self._connections: list[AbstractConnection] = list(made)
        self._idle = list(self._connections)
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, function: str, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """Raises TimeoutError after `timeout_seconds`, and what redis raises: RedisError or OSError."""
        loop = asyncio.get_running_loop()
        command = ("FCALL", f"{self._library}_{function}", len(keys), *keys, *arguments)
        call = _Call(command, loop.create_future(), loop.time() + self._timeout_seconds)
        self._waiting.append(call)
        if self._idle:
            task = loop.create_task(self._send(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await call.reply

    async def close(self) -> None:
        """Waits for the calls under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._connections:
            await connection.disconnect()

    async def _send(self, connection: AbstractConnection) -> None:
        while self._waiting:
            calls = [self._waiting.popleft() for _ in range(min(MAX_CALLS, len(self._waiting)))]
            try:
                # The time of the first call: what delays it does not delay those in the next pipeline.
                async with asyncio.timeout_at(min(call.until for call in calls)):
                    replies = await self._execute(connection, [call.command for call in calls])
            except Exception as error:
                replies = [error] * len(calls)
            for call, reply in zip(calls, replies, strict=True):
                if call.reply.done():
                    continue
                if isinstance(reply, Exception):
                    call.reply.set_exception(reply)
                else:
                    call.reply.set_result(reply)
        self._idle.append(connection)

    async def _execute(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        try:
            replies = await pipelined(connection, commands)
        except RedisConnectionError:
            # It may have gone stale since its last use: one more attempt, at once, on a new one.
            await connection.disconnect()
            replies = await pipelined(connection, commands)
        unknown = [place for place, reply in enumerate(replies) if _lacks_function(reply)]
        if unknown:
            loaded, *again = await pipelined(connection, [self._load, *(commands[place] for place in unknown)])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = loaded if isinstance(loaded, ResponseError) else reply
        return replies


async def pipelined(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """Sends all commands, then reads all replies, errors of single commands among them."""
    try:
        packed = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]  # its stub takes one part
        await connection.send_packed_command(packed)
        return [await _reply(connection) for _ in commands]
    except BaseException:
        # An unread reply must not be taken for the next one's, nor may a connection be used that failed to select its database.
        await connection.disconnect(nowait=True)
        raise


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _lacks_function(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
