"""Carries runs of a script to Redis: those that come while others are on their way travel together."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

# Connections, each with one pipeline on its way at a time. With one, whoever comes just after it has left would wait for two round trips.
CONNECTIONS = 2
# Runs in a pipeline: what comes back is held until the last one has run.
MOST_RUNS = 128

Part = str | int | bytes


class _Run(NamedTuple):
    command: list[Part]
    """What follows the script, or its digest."""
    done: asyncio.Future[Any]
    until: float


class RedisCourier:
    """An idle connection is written to at once; there is no waiting for a pipeline to fill.

    The script is sent again to a server that does not know it, so nothing breaks at a restart, a failover or a flush. It has to be one
    that may be repeated: after a lost connection nobody knows whether it ran. A caller that is cancelled leaves its run on its
    way, and no reply goes to anybody but who asked for it.
    """

    def __init__(self, pool: ConnectionPool, script: str, timeout_seconds: float) -> None:
        """`pool` makes the connections, and holds none of them: to take one and give it back costs as much as a run."""
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Run] = deque()
        made = (pool.make_connection() for _ in range(CONNECTIONS))  # type: ignore[no-untyped-call]
        self._connections: list[AbstractConnection] = list(made)
        self._idle = list(self._connections)
        self._carrying: set[asyncio.Task[None]] = set()

    async def run(self, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """The script's answer.

        Raises TimeoutError after `timeout_seconds`, and what redis raises: RedisError or OSError.
        """
        loop = asyncio.get_running_loop()
        run = _Run([len(keys), *keys, *arguments], loop.create_future(), loop.time() + self._timeout_seconds)
        self._waiting.append(run)
        if self._idle:
            task = loop.create_task(self._carry(self._idle.pop()))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)
        return await run.done

    async def close(self) -> None:
        """Waits for what is on its way."""
        while self._carrying:
            await asyncio.wait(self._carrying)
        for connection in self._connections:
            await connection.disconnect()

    async def _carry(self, connection: AbstractConnection) -> None:
        while self._waiting:
            runs = [self._waiting.popleft() for _ in range(min(MOST_RUNS, len(self._waiting)))]
            try:
                # As long as the first of them may still wait: later ones are not held up by what kept it.
                async with asyncio.timeout_at(min(run.until for run in runs)):
                    replies = await self._execute(connection, runs)
            except Exception as error:
                replies = [error] * len(runs)
            for run, reply in zip(runs, replies, strict=True):
                if run.done.done():
                    continue
                if isinstance(reply, Exception):
                    run.done.set_exception(reply)
                else:
                    run.done.set_result(reply)
        self._idle.append(connection)

    async def _execute(self, connection: AbstractConnection, runs: Sequence[_Run]) -> list[Any]:
        try:
            replies = await _pipeline(connection, ("EVALSHA", self._digest), runs)
        except RedisConnectionError:
            # It may have gone stale since its last use: one more attempt, at once, on a new one.
            await connection.disconnect()
            replies = await _pipeline(connection, ("EVALSHA", self._digest), runs)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await _pipeline(connection, ("EVAL", self._script), [runs[place] for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies


async def _pipeline(connection: AbstractConnection, script: tuple[str, str], runs: Sequence[_Run]) -> list[Any]:
    commands = [pack_command((*script, *run.command)) for run in runs]  # type: ignore[arg-type]  # its stub takes one part
    try:
        await connection.send_packed_command(commands)
        return [await _reply(connection) for _ in runs]
    except BaseException:
        # No reply is left behind in it; nor is one that could not select its database used again, as it would use another one.
        await connection.disconnect(nowait=True)
        raise


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
